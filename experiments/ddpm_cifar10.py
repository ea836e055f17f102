"""Denoising diffusion on CIFAR-10 with the settings of its paper.

Ho et al., "Denoising Diffusion Probabilistic Models" (2020), appendix B and their code: a U-Net of
36 million parameters that predicts the noise, 800,000 steps of 128 mirrored images, dropout, an
average of decay 0.9999, samples along the full chain. The paper reports an FID of 3.17.

    python -m experiments.ddpm_cifar10 --data.dir DIR     # then: evaluate --n 0

Made for a GPU; with --compute bfloat16 activations take half the memory. A smaller budget:
--run.steps 2000 --channels 32 --warm-up 200 --ema 0.99.
--data.download prepares cifar10 where TensorFlow is installed.
"""

from dataclasses import dataclass
from typing import Literal

from experiments import ddpm_fashion
from experiments.ddpm_fashion import build
from genjax.cli.main import main
from genjax.data import DataSettings
from genjax.run import Settings


@dataclass(frozen=True)
class Config(ddpm_fashion.Config):
    run: Settings = Settings(steps=800_000, batch=128, every=5000)
    data: DataSettings = DataSettings("cifar10")
    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    blocks: int = 2
    attention: tuple[int, ...] = (16,)
    head_features: int = 256
    groups: int = 32
    dropout: float = 0.1
    output: Literal["velocity", "noise"] = "noise"
    flip: bool = True
    sampler: Literal["ddim", "ancestral"] = "ancestral"
    learning_rate: float = 2e-4
    warm_up: int = 5000
    decay: int | None = None
    ema: float = 0.9999


if __name__ == "__main__":
    main("ddpm_cifar10", __doc__, Config(), build)
