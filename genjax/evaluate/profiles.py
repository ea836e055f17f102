"""What the people of a family look at first: the loss per noise level, the KL term per dimension.

A profile is a curve over something else than the train step, on one batch of held-out images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

LEVELS = tuple((2 * i + 1) / 20 for i in range(10))  # the middles of tenths of the time


@dataclass(frozen=True)
class Profile:
    """A curve of a state on a batch.

    Attributes:
      name: what it shows.
      axis: what it is a curve over.
      values: (state, keys [B], batch) -> (x [n], y [n]); jittable.
      hint: how to read it.
    """

    name: str
    axis: str
    values: Callable[[Any, Array, Any], tuple[Array, Array]]
    hint: str = ""


def per_noise_level(
    validate: Callable[[Any, Array, Any, Array], Mapping[str, Array]],
    levels: tuple[float, ...] = LEVELS,
) -> Profile:
    """The loss of a diffusion model at fixed times, the same noise at each.

    Args:
      validate: (state, keys [B], batch, t [B]) -> {name: loss [B]}, of which the first is shown.
      levels: the times, in 0..1.

    Returns:
      The profile.
    """

    def values(state: Any, keys: Array, batch: Any) -> tuple[Array, Array]:
        times = jnp.asarray(levels)

        def at(t: Array) -> Array:
            losses = validate(state, keys, batch, jnp.full(len(keys), t))
            return next(iter(losses.values())).mean()

        return times, jax.lax.map(at, times)

    return Profile(
        "Loss per noise level",
        "t",
        values,
        "Held-out images at fixed times t: 0 is the image, 1 is noise. Details are learned at small"
        " t, layout at large t.",
    )


def kl_per_dimension(encode: Callable[[Any, Any], tuple[Array, Array]]) -> Profile:
    r"""The KL term of each dimension of a Gaussian code, in nats, the largest first.

    $$
    \mathrm{KL}_j = \tfrac{1}{2} \, \mathbb{E}_x\left[
      \mu_j(x)^2 + \sigma_j(x)^2 - \ln \sigma_j(x)^2 - 1 \right]
    $$

    Args:
      encode: (state, batch) -> (mean, log_var), [B, n] each.

    Returns:
      The profile.

    References:
      Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders" (2016), arXiv:1509.00519,
      section 5.2, on units that are not used.
    """

    def values(state: Any, keys: Array, batch: Any) -> tuple[Array, Array]:
        mean, log_var = encode(state, batch)
        kl = (mean**2 + jnp.exp(log_var) - log_var - 1).mean(0) / 2
        return jnp.arange(1, kl.size + 1), jnp.sort(kl.ravel())[::-1]

    return Profile(
        "KL per dimension of the code",
        "dimension",
        values,
        "In nats on held-out images, the largest first. Dimensions near 0 are not used.",
    )


def activity_per_dimension(encode: Callable[[Any, Array], Array]) -> Profile:
    r"""How far the mean of each dimension of a code depends on the image, the largest first.

    $$
    A_j = \mathrm{Var}_x \left( \mathbb{E}_{q(h_j \mid x)} \, h_j \right)
    $$

    Args:
      encode: (state, images [B, H, W, C]) -> means of the code, [B, n].

    Returns:
      The profile.

    References:
      Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders" (2016), arXiv:1509.00519,
      section 5.2, where a unit of more than 0.01 is active.
    """

    def values(state: Any, keys: Array, batch: Any) -> tuple[Array, Array]:
        activity = encode(state, batch["image"]).var(0)
        return jnp.arange(1, activity.size + 1), jnp.sort(activity)[::-1]

    return Profile(
        "Activity per dimension of the code",
        "dimension",
        values,
        "Variance of the mean code over held-out images, the largest first. A dimension of under "
        "0.01 is not used.",
    )


def kl_per_block(kl: Callable[[Any, Any, Any], Array]) -> Profile:
    """The KL term of each block of latents of a hierarchy, in the order in which they are drawn.

    Args:
      kl: (state, keys [B], batch) -> nats per image and block, [B, n].

    Returns:
      The profile.
    """

    def values(state: Any, keys: Array, batch: Any) -> tuple[Array, Array]:
        each = kl(state, keys, batch).mean(0)
        return jnp.arange(1, each.size + 1), each

    return Profile(
        "KL per block of latents",
        "block",
        values,
        "In nats per image on held-out images, from the coarsest grid on. Blocks near 0 are not "
        "used.",
    )


def projection(codes: np.ndarray) -> tuple[np.ndarray, float]:
    """Codes on their two axes of largest variance (PCA).

    Args:
      codes: [n, d], finite, d of 2 at least.

    Returns:
      [n, 2], and the share of the variance that lies along the two axes.
    """
    centred = np.asarray(codes, np.float64) - np.mean(codes, 0, dtype=np.float64)
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    total = float((lengths**2).sum())
    # The sign of an axis is arbitrary: the one by which its largest entry is positive.
    largest = np.abs(axes).argmax(1)
    axes = axes * np.sign(axes[np.arange(len(axes)), largest])[:, None]
    return centred @ axes[:2].T, float((lengths[:2] ** 2).sum()) / total if total else 0.0
