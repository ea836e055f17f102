"""What edits along latent directions do to images, measured: what was wanted, and what else."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax.edit.latent_density import Decode
from genjax.numerics import check_floats

Measure = Callable[[Array], Array]  # x [B, H, W, C] -> attributes [B, K]


class Walk(NamedTuple):
    """Images along a direction.

    Attributes:
      z: [n, B, *latent].
      x: [n, B, H, W, C]; at strength 0 exactly what was decoded before the edit.
      measured: the attributes of the images, [n, B, K].
    """

    z: Array
    x: Array
    measured: Array


class Effects(NamedTuple):
    """How attributes change per unit of step along directions: the entanglement table.

    Attributes:
      change: mean over the latents, [D, K], in units of the attribute.
      error: standard error of that mean, [D, K].
      spread: standard deviation of each attribute over the unedited images, [K].
    """

    change: Array
    error: Array
    spread: Array

    @property
    def relative(self) -> Array:
        """`change` in standard deviations of each attribute, [D, K], so that columns compare."""
        return self.change / self.spread[None]


def walk(decode: Decode, z: Array, direction: Array, strengths: Array, measure: Measure) -> Walk:
    r"""Images along a direction, each with its attributes.

    $$
    x_s = g(z + s\, d)
    $$

    Args:
      decode: g, z [B, *latent] -> x [B, H, W, C].
      z: latents to edit, [B, *latent].
      direction: d, [*latent], as of `directions`.
      strengths: s, [n]; 0 leaves an image as it is.
      measure: x -> [B, K], such as a classifier's logits.

    Returns:
      Latents, images and attributes per strength. One strength is computed at a time.

    Raises:
      ValueError: where the direction is not of one latent's shape.
    """
    _check(z, direction[None])

    def at(strength: Array) -> Walk:
        moved = z + strength * direction[None]
        x = decode(moved)
        return Walk(moved, x, measure(x))

    return jax.lax.map(at, jnp.asarray(strengths, z.dtype))


def effects(
    decode: Decode, z: Array, directions: Array, measure: Measure, *, step: float = 1.0
) -> Effects:
    r"""The change of every attribute per unit of step along every direction.

    $$
    T_{jk} = \frac{1}{B} \sum_i
      \frac{a_k(g(z_i + h\, d_j)) - a_k(g(z_i - h\, d_j))}{2 h}
    $$

    A direction is disentangled if its row is small in all columns but its own. Measure by a
    classifier that did not make the directions, and by logits or log odds: probabilities sum to 1,
    so that one can only rise as others fall.

    Args:
      decode: g, z [B, *latent] -> x [B, H, W, C].
      z: latents to edit, [B, *latent], at least 2: drawn from the prior, or codes of held-out
        images.
      directions: d, [D, *latent], as of `directions`.
      measure: a, x [B, H, W, C] -> [B, K].
      step: h, in lengths of the directions.

    Returns:
      The table with its standard errors. One direction is computed at a time.

    Raises:
      ValueError: where directions are not of one latent's shape, or there are fewer than 2 latents.

    References:
      Shen et al., "InterFaceGAN: Interpreting the Disentangled Face Representation Learned by GANs"
      (2020), arXiv:1907.10786, which measures by scoring edited images too.
    """
    _check(z, directions)
    if len(z) < 2:
        raise ValueError("effects are means over latents: give at least 2")

    def along(direction: Array) -> tuple[Array, Array]:
        up, down = (measure(decode(z + s * step * direction[None])) for s in (1, -1))
        change = (up - down) / (2 * step)
        return change.mean(0), change.std(0, ddof=1) / jnp.sqrt(len(z))

    change, error = jax.lax.map(along, directions)
    return Effects(change, error, measure(decode(z)).std(0, ddof=1))


def entanglement(table: Effects, targets: Array) -> Array:
    r"""How much an edit changes what it should not: one number per direction.

    $$
    \max_{k \ne k_j} \frac{|T_{jk}| / s_k}{|T_{j k_j}| / s_{k_j}}
    $$

    with s the spread of each attribute. 0 changes the target alone; above 1 something else changes
    more than it.

    Args:
      table: of `effects`, with two attributes or more.
      targets: which attribute each direction is to change, integers [D].

    Returns:
      [D].

    Raises:
      ValueError: where there is not one target per direction, or one attribute alone.
    """
    relative, targets = jnp.abs(table.relative), jnp.asarray(targets)
    if targets.shape != relative.shape[:1] or relative.shape[1] < 2:
        raise ValueError(
            f"give one target per direction, [{len(relative)}], and 2 attributes or more, not "
            f"{targets.shape} and {relative.shape[1]}"
        )
    own = targets[:, None] == jnp.arange(relative.shape[1])[None]
    return jnp.where(own, 0, relative).max(1) / jnp.where(own, relative, 0).max(1)


def _check(z: Array, directions: Array) -> None:
    check_floats(z=z, directions=directions)
    if directions.shape[1:] != z.shape[1:]:
        raise ValueError(f"directions must be of shape {z.shape[1:]}, not {directions.shape[1:]}")
