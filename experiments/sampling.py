"""How diffusion and flow experiments sample: settings that may be chosen again for each command.

A `Config` inherits `SamplerSettings`, or for data in −1..1 `PixelSamplerSettings`, and `drawing`
returns what its `Family` takes: `generate`, `trajectory`, `denoiser` and, where no noise is drawn,
`invert`.
"""

import math
from dataclasses import dataclass, fields
from functools import partial
from typing import Annotated, Literal

import jax
import jax.numpy as jnp

from genjax.diffusion import (
    adams_bashforth,
    correctors,
    interpolants,
    multistep,
    samplers,
    singlestep,
    steps,
    thresholding,
)
from genjax.errors import ConfigError
from genjax.limits import Count, Limits, NonNegative, Positive, flag
from genjax.run import SAMPLING, Denoiser


def interpolant_sde(*args, schedule, **options):
    """With the diffusion coefficient σ(t), the usual one of SiT."""
    return interpolants.sde(*args, schedule=schedule, diffusion=schedule.sigma, **options)


SAMPLERS = {
    "ddim": samplers.ddim,
    "ancestral": samplers.ancestral,
    "euler": samplers.euler,
    "heun": samplers.heun,
    "dpm_solver_2m": multistep.dpm_solver_2m,
    "dpm_solver_3m": multistep.dpm_solver_3m,
    "unipc": multistep.unipc,
    "lms": adams_bashforth.lms,
    "deis": adams_bashforth.deis,
    "dpm_solver_2": singlestep.dpm_solver,
    "dpm_solver_3": partial(singlestep.dpm_solver, order=3),
    "dpm_solver_2s": singlestep.dpm_solver_2s,
    "dpm_solver_sde": singlestep.dpm_solver_sde,
    "interpolant_sde": interpolant_sde,
    "predictor_corrector": correctors.predictor_corrector,
}
WITH_ETA = (
    "ddim", "dpm_solver_2m", "dpm_solver_3m", "dpm_solver_2", "dpm_solver_3", "dpm_solver_2s",
)  # fmt: skip
WITH_CHURN = ("euler", "heun")
STOCHASTIC = ("ancestral", "dpm_solver_sde", "interpolant_sde", "predictor_corrector")
FIRST_ORDER = ("ddim", "euler")  # the others that draw no noise are inverted by Heun's method

Sampler = Annotated[Literal[*SAMPLERS], SAMPLING]
Steps = Annotated[Count, SAMPLING]
Threshold = Annotated[Literal["off", "static", "dynamic"], SAMPLING]
Spacing = Annotated[Literal["linear", "quadratic", "karras", "log_snr"], SAMPLING]
Portion = Annotated[float, Limits(0, 1), SAMPLING]
# Noise levels σ/α, low and high.
Interval = Annotated[tuple[NonNegative, NonNegative] | None, SAMPLING]


@dataclass(frozen=True)
class SamplerSettings:
    sampler: Sampler = "ddim"
    """How noise becomes an image. ancestral takes all the --levels, where there are such; heun,
    dpm_solver_2, dpm_solver_2s, dpm_solver_sde and predictor_corrector evaluate the network twice
    per step, dpm_solver_3 three times."""
    sampling_steps: Steps = 50
    """Steps of the sampler."""
    spacing: Spacing = "linear"
    """What the steps are equal in: time, its square root, EDM's seventh root of noise over signal,
    or the log of signal over noise."""
    eta: Portion = 0.0
    """Noise that ddim and the dpm_solver_* draw in each step: 0 none, 1 as much as the chain lost:
    with dpm_solver_2 that is DPM-2 ancestral, with dpm_solver_2s DPM++ 2S ancestral, with
    dpm_solver_2m and dpm_solver_3m their SDE forms."""
    churn: Annotated[NonNegative, SAMPLING] = 0.0
    """EDM's S_churn, noise that euler and heun add before their steps."""
    churn_interval: Interval = None
    """EDM's S_tmin and S_tmax, the noise levels between which they add it. None: at all of them."""
    churn_noise: Annotated[Positive, SAMPLING] = 1.0
    """EDM's S_noise, a factor on the standard deviation of that noise."""

    @property
    def clip(self):
        """What is applied to each estimate of the data."""
        return None

    def drawing(self, predict, *, schedule, target, decode=None, encode=None):
        """The functions of a `Family` that draw images.

        predict: (state, label) -> (z, t) -> what `target` names. decode: (state, key, data) ->
        images in 0..1, and encode: (state, images uint8) -> data; None where data are −1..1.
        """
        pixels, noise = decode is None, getattr(schedule, "sigma_max", 1.0)
        decode = decode or (lambda state, key, x: (x + 1) / 2)
        encode = encode or (lambda state, image: image / 127.5 - 1)

        def options():
            grid = self.grid(schedule)
            return {"schedule": schedule, "target": target, "steps": grid, "clip": self.clip}

        def run(state, key, z, label, **more):
            how = options() | more
            if self.sampler in WITH_ETA:
                how["eta"] = self.eta
            if self.sampler in WITH_CHURN and self.churn:
                ends = self.churn_interval or (0.0, math.inf)
                how["churn"] = samplers.Churn(self.churn, *ends, self.churn_noise)
            sampler, model = SAMPLERS[self.sampler], predict(state, label)
            return sampler(model, key, z.shape, start=noise * z, **how)

        def generate(state, key, z, label):
            return decode(state, key, run(state, key, z, label))

        def trajectory(state, key, z, label):
            _, path = run(state, key, z, label, trajectory=True)
            # Noise that is wider than the range of pixels is shown as wide as that.
            width = jnp.maximum(1, schedule.sigma(self.grid(schedule)))
            path = path / width[(..., *[None] * z.ndim)]
            return jnp.moveaxis(jax.lax.map(lambda x: decode(state, key, x), path), 0, 1)

        def invert(state, key, image, label):
            solver = samplers.ddim if self.sampler in FIRST_ORDER else samplers.heun
            x = encode(state, image)
            return samplers.encode(predict(state, label), x, sampler=solver, **options()) / noise

        denoiser = Denoiser(
            predict=predict,
            schedule=schedule,
            target=target,
            steps=lambda: self.grid(schedule),
            clip=self.clip,
            encode=encode,
            decode=decode,
            pixels=pixels,
        )
        found = {"generate": generate, "trajectory": trajectory, "denoiser": denoiser}
        return found if self.draws_noise else {**found, "invert": invert}

    @property
    def draws_noise(self):
        """Whether an image depends on more noise than that which it starts from."""
        drawn = (self.sampler in WITH_ETA and self.eta) or (
            self.sampler in WITH_CHURN and self.churn
        )
        return bool(drawn) or self.sampler in STOCHASTIC

    def grid(self, schedule):
        """The sampler's times, from 1, where the latents lie, to 0; the last but one is a level."""
        levels = getattr(self, "levels", None)
        n = levels if levels and self.sampler == "ancestral" else self.sampling_steps
        if self.spacing == "linear":
            return steps.linear(n)
        # A schedule that ends above clean data has a level there.
        first = 2.0**-40 if hasattr(schedule, "sigma_min") else 1 / (levels or 1000)
        if self.spacing == "quadratic":
            return jnp.append(steps.quadratic(n - 1, end=first), 0)
        if self.spacing == "log_snr":
            times = steps.linear_log_snr(n, schedule=schedule, start=1 - first, end=first)
        else:
            least = jnp.exp(-schedule.log_snr(first) / 2)
            times = steps.karras(n, schedule=schedule, sigma_min=least)
        return times.at[0].set(1)

    def check_sampling(self, chosen):
        """Refuses settings that do not fit; those `chosen`, by name, must have an effect."""

        def idle(name, why):
            if name in chosen:
                raise ConfigError(f"{flag(name)} {getattr(self, name)} has no effect {why}")

        levels, on = getattr(self, "levels", None), f"on --sampler {self.sampler}"
        if levels and self.sampler == "ancestral":
            idle("sampling_steps", f"{on}, which takes all --levels")
            idle("spacing", f"{on}, which takes all --levels")
        elif levels and self.sampling_steps > levels:
            raise ConfigError(
                f"--sampling-steps {self.sampling_steps} must be at most --levels {levels}"
            )
        if self.sampler not in WITH_ETA:
            idle("eta", f"{on}: it is for {', '.join(WITH_ETA)}")
        if self.sampler not in WITH_CHURN:
            idle("churn", f"{on}: it is for {' and '.join(WITH_CHURN)}")
        for name in ("churn_interval", "churn_noise"):
            if not (self.churn and self.sampler in WITH_CHURN):
                idle(name, "without --churn")
        if getattr(self, "threshold", "") != "dynamic":
            idle("quantile", "without --threshold dynamic")
        if not getattr(self, "classes", True):
            idle("guidance", "without --classes")

    def chosen(self):
        """The names of the settings that are not as by default."""
        return {
            f.name for f in fields(self) if getattr(self, f.name) != getattr(type(self), f.name)
        }


def scored(channels):
    """Images that `evaluate` scores in some three minutes on two cores with such a U-Net.

    Of 16 channels one takes 2 to 3 s: 51 levels, and 200 evaluations with derivatives of the ODE.
    """
    return min(80, max(2, round(80 * (16 / channels) ** 2)))


@dataclass(frozen=True)
class PixelSamplerSettings(SamplerSettings):
    threshold: Threshold = "off"
    """Thresholding of each estimate of the image: static clips its pixels to their range, dynamic
    scales them into it."""
    quantile: Portion = 0.995
    """Share of an image's pixels that dynamic thresholding does not clip."""

    @property
    def clip(self):
        if self.threshold == "dynamic":
            return thresholding.dynamic(self.quantile)
        return (-1, 1) if self.threshold == "static" else None
