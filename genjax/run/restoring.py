"""Answers to observations by a trained family: a denoiser's solvers, or a decoder's latents."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from genjax import keys
from genjax.data.errors import DataError
from genjax.edit import (
    ddnm,
    dps,
    latent_maximum,
    latent_sampling,
    pigdm,
    repaint,
    twisted_smc,
)
from genjax.errors import ConfigError
from genjax.report.grids import to_uint8
from genjax.run.altering import every, predictor, solver_settings
from genjax.run.edit_settings import Solver
from genjax.run.edited_run import EditedRun
from genjax.run.observing import Observation
from genjax.run.sampling import in_chunks, labels

logger = logging.getLogger(__name__)


def _particles(*given: Any, **how: Any) -> jax.Array:
    return twisted_smc.twisted_smc(*given, **how).x


DENOISING: dict[str, Callable[..., Any]] = {
    "pigdm": pigdm.pigdm,
    "ddnm": ddnm.ddnm,
    "dps": dps.dps,
    "repaint": repaint.repaint,
    "particles": _particles,
}
NON_LINEAR = ("dps", "particles")
DECODING = ("hmc", "maximum")
CHUNK = 16  # answers that a denoiser computes together
STEPS = 500  # of the ascent to each answer's latents, a decoding each
WALK = {"draws": 200, "warmup": 200, "leapfrogs": 16}  # of hmc, from there on
FEW = 4  # images whose latents are looked for together on an accelerator
UNKNOWN = 0.2  # what a decoder without an encoder is taken to miss, of a range of 2


@dataclass(frozen=True)
class Restored:
    """Answers to observations.

    Attributes:
      images: uint8 [m, n, H, W, C].
      spread: their standard deviation per pixel, of a range of 1, [m, H, W]; None for
        one answer.
      lines: how they were found, and whether to trust them.
    """

    images: np.ndarray
    spread: np.ndarray | None
    lines: tuple[str, ...]


def restore(
    run: EditedRun,
    observed: Observation,
    n: int = 4,
    *,
    solver: Solver | None = None,
    label: int | None = None,
    seed: int = 0,
) -> Restored:
    """Draws images that explain observations.

    Args:
      run: the trained run.
      observed: the observations.
      n: answers for each.
      solver: None for what suits the family: "pigdm" or "dps" by whether the operator is linear,
        "hmc" for a decoder.
      label: the class of all images, where the family takes one; None where it is not known.
      seed: of the answers.

    Returns:
      The answers.

    Raises:
      ConfigError: where the family can not do it, or not by that solver.
    """
    if run.family.generate is None:
        raise ConfigError("this family makes no images: it cannot fill in or restore any")
    labels(run.family, 0, label)
    find = _decode if run.family.denoiser is None else _denoise
    return find(run, observed, n, solver, label, seed)


def _denoise(
    run: EditedRun,
    observed: Observation,
    n: int,
    solver: Solver | None,
    label: int | None,
    seed: int,
) -> Restored:
    denoiser, operator = run.family.denoiser, observed.operator
    assert denoiser is not None
    if not denoiser.pixels:
        raise ConfigError(
            "this family denoises codes, of which no pixel is known: fill in and restore with a "
            "family that denoises images (ddpm_fashion, flow_cifar10, …) or a decoder (vae_fashion)"
        )
    solver = solver or ("pigdm" if operator.linear else "dps")
    if solver in DECODING:
        raise ConfigError(
            f"--solver {solver} is for decoders; a diffusion model takes {', '.join(DENOISING)}"
        )
    if not operator.linear and solver not in NON_LINEAR:
        raise ConfigError(
            f"--solver {solver} needs a linear task: give --solver {' or '.join(NON_LINEAR)}"
        )
    if solver == "repaint" and operator.gram is None and observed.noise.any():
        raise ConfigError(
            "--solver repaint takes noise with hidden pixels and fewer pixels alone: give another"
        )
    m, state = len(observed.y), run.usable_state
    how = {**solver_settings(denoiser), "clip": denoiser.clip}

    @jax.jit
    def some(state: Any, each: jax.Array, y: jax.Array, noise: jax.Array) -> jax.Array:
        predict = predictor(denoiser, state, label)

        def one(key: jax.Array, y: jax.Array, noise: jax.Array) -> jax.Array:  # each its own noise
            solve = DENOISING[solver]
            return solve(predict, key[None], y[None], operator, noise=noise, **how)[0]

        x = jax.vmap(one)(each, y, noise)
        return denoiser.decode(state, each, x)

    def answers(each: jax.Array, rows: jax.Array) -> jax.Array:
        of = np.minimum(np.asarray(rows), m * n - 1) // n
        return some(state, each, observed.y[of], observed.noise[of])

    chunks = in_chunks(answers, jax.random.key(seed), m * n, True, CHUNK)
    x = np.concatenate([*chunks]).reshape(m, n, *operator.shape)
    steps = len(how["steps"]) - 1
    return _restored(x, (f"solver: {solver}, {steps} steps, {n} answers for each image",))


def _decode(
    run: EditedRun,
    observed: Observation,
    n: int,
    solver: Solver | None,
    label: int | None,
    seed: int,
) -> Restored:
    family, state, operator = run.family, run.usable_state, observed.operator
    solver = solver or "hmc"
    if solver not in DECODING:
        raise ConfigError(
            f"--solver {solver} is for diffusion models; a decoder takes {', '.join(DECODING)}"
        )
    if family.latent is None or family.draw is not None:
        raise ConfigError("the latents of this family are no vectors: they cannot be looked for")
    if family.classes and label is None:
        raise ConfigError("this family draws by class: say which by --label")
    generate, (missed, told_missed) = family.generate, _missed(run)
    assert generate is not None
    mixture, latent = run.mixture if family.mixture else None, family.latent

    @jax.jit
    def some(state: Any, each: jax.Array, y: jax.Array, noise: jax.Array) -> Any:
        def decode(z: jax.Array) -> jax.Array:
            drawn = keys.per_example(each[0], len(z))
            return 2 * generate(state, drawn, z, every(label, len(z))) - 1

        start, walk = keys.split(each, 2)
        how: dict[str, Any] = {"latent": latent, "noise": jnp.sqrt(noise**2 + missed**2)}
        if mixture is not None:
            how["log_prior"] = mixture.log_density
        ascent = latent_maximum.maximum_a_posteriori
        best = ascent(decode, start, y, operator, starts=n, steps=STEPS, **how)
        if solver == "maximum":
            size = len(y) * n
            ends = best.ends.reshape(size, *latent)
            return decode(ends).reshape(len(y), n, *operator.shape), best.misfit
        how |= {"start": best.ends, "chains": n, **WALK}
        draws = latent_sampling.hmc(decode, walk, y, operator, **how)
        return draws.x, jnp.stack([draws.acceptance, draws.r_hat, draws.effective_samples])

    m, count, shorter = len(observed.y), n * STEPS, ""
    if solver == "hmc":
        shorter = f"; --solver maximum takes {count:,}"
        count += n * (WALK["draws"] + WALK["warmup"]) * WALK["leapfrogs"]
    logger.info("solver: %s, %s decodings for each image%s", solver, f"{count:,}", shorter)
    # One by one takes a CPU as long as several together, and shows how it goes on.
    size = 1 if jax.default_backend() == "cpu" else min(FEW, m)
    parts, told = [], []
    with tqdm(total=m * n, unit="image", disable=None) as bar:
        for first in range(0, m, size):
            these = np.minimum(first + np.arange(size), m - 1)
            each = keys.per_example(jax.random.key(seed), size, first)
            x, seen = some(state, each, observed.y[these], observed.noise[these])
            parts.append((np.asarray(x) + 1) / 2)
            told.append(np.atleast_2d(seen)[:, : m - first])
            bar.update(min(size, m - first) * n)
    return _restored(
        np.concatenate(parts)[:m], (_trust(solver, np.concatenate(told, 1), told_missed),)
    )


def _missed(run: EditedRun) -> tuple[float, str]:
    """What a decoder does not express of images, of a range of 2, and that in words."""
    guess = f"the decoder is taken to miss {UNKNOWN / 2:g} per pixel (of a range of 1)"
    if run.family.encode is None:
        return UNKNOWN, guess
    try:
        batch = run.held_out_batch(64)
    except DataError:  # an export is used where its data are not
        return UNKNOWN, guess
    again = run.reconstruct(batch["image"], batch.get("label"))
    found = float(np.sqrt(np.mean((again / 255.0 - batch["image"] / 255.0) ** 2)))
    return (
        2 * found,
        f"the decoder misses {found:.3g} per pixel of held-out images (of a range of 1)",
    )


def _trust(solver: str, seen: np.ndarray, missed: str) -> str:
    line = f"solver: {solver}; {missed}"
    if len(seen) == 1:
        return f"{line}; misfit {seen.max():.2g}, 1 where the observation is explained"
    rate, r_hat, size = seen
    line += f"; acceptance {rate.mean():.0%}, R-hat up to {r_hat.max():.3g}"
    line += f", {size.min():.0f} effective draws"
    return (
        line
        if r_hat.max() < 1.1
        else f"{line}: the chains disagree, the answers are of several modes"
    )


def _restored(images: np.ndarray, lines: tuple[str, ...]) -> Restored:
    spread = images.std(1, ddof=1).mean(-1) if images.shape[1] > 1 else None
    return Restored(to_uint8(images), spread, lines)
