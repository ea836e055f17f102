"""The priors of latent diffusion: EDM's U-Net or a transformer, on latents of variance 1."""

from dataclasses import dataclass, replace
from typing import Literal

from experiments.guiding import GuidanceSettings
from experiments.transformer_training import TransformerTraining
from genjax import recipes
from genjax.diffusion import predictions
from genjax.limits import Count, Positive, Width, Widths
from genjax.losses import times
from genjax.models.edm_settings import EDMSettings


@dataclass(frozen=True)
class PriorSettings(EDMSettings, TransformerTraining, GuidanceSettings):
    """A base class for the settings of an experiment with either prior, before its sampler's."""

    prior: Literal["edm", "dit"] = "edm"
    """EDM's preconditioned U-Net, or a transformer with flow matching."""
    network: Literal["ddpmpp", "ncsnpp"] = "ddpmpp"
    """DDPM++, or NCSN++, which embeds the noise by Fourier features and resamples smoothly."""
    channels: Width = 32
    multipliers: Widths = (1, 2)
    attention: tuple[Count, ...] = (8,)
    noise_mean: float = -0.4
    """Mean of the logarithm of the noise levels that --prior edm is trained on, for latents of
    standard deviation 1."""
    noise_std: Positive = 1.2
    """Standard deviation of that logarithm."""
    patch: Count = 2
    time_scale: Positive = 1000.0

    def denoiser_and_recipe(self, classes: int | None):
        """The prior's network, and how it is trained."""
        if self.prior == "dit":
            return self.transformer(classes), recipes.rectified_flow
        target = predictions.Preconditioned(1.0)
        levels = times.LogNormal(recipes.edm.schedule, self.noise_mean, self.noise_std)
        return self.denoiser(classes), replace(recipes.edm, target=target, times=levels)
