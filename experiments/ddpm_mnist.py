"""Denoising diffusion on MNIST, for its bits per dimension.

Ho et al., "Denoising Diffusion Probabilistic Models" (2020): `evaluate` gives the variational bound
by its parts, and the likelihood along the probability-flow equation of Song et al. (2021) at
uniformly dequantised images.

    python -m experiments.ddpm_mnist --data.dir DIR       # then: evaluate --n 100

--data.download prepares mnist where TensorFlow is installed.
"""

from dataclasses import dataclass

from experiments import ddpm_fashion
from experiments.ddpm_fashion import build
from genjax.cli.main import main
from genjax.data import DataSettings
from genjax.limits import Natural, Positive, Width
from genjax.run import Settings


@dataclass(frozen=True)
class Config(ddpm_fashion.Config):
    run: Settings = Settings(steps=30_000, batch=64, every=1000)
    data: DataSettings = DataSettings("mnist")
    channels: Width = 32
    learning_rate: Positive = 1e-3
    warm_up: Natural = 500


if __name__ == "__main__":
    main("ddpm_mnist", __doc__, Config(), build)
