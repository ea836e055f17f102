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
from experiments.sampling import Sampler
from genjax.cli.main import main
from genjax.data import DataSettings
from genjax.limits import Count, Depth, Natural, Positive, Share, Width, Widths
from genjax.run import Settings


@dataclass(frozen=True)
class Config(ddpm_fashion.Config):
    run: Settings = Settings(steps=800_000, batch=128, every=5000)
    data: DataSettings = DataSettings("cifar10")
    channels: Width = 128
    multipliers: Widths = (1, 2, 2, 2)
    blocks: Depth = 2
    attention: tuple[Count, ...] = (16,)
    head_features: Width = 256
    groups: Width = 32
    dropout: Share = 0.1
    output: Literal["velocity", "noise"] = "noise"
    flip: bool = True
    sampler: Sampler = "ancestral"
    learning_rate: Positive = 2e-4
    warm_up: Natural = 5000
    decay: Natural | Literal["steps"] | None = None
    ema: Share = 0.9999


if __name__ == "__main__":
    main("ddpm_cifar10", __doc__, Config(), build)
