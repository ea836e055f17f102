"""Projection of images into the latents of a GAN, whose decoder has no encoder."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from genjax import keys
from genjax.edit import latent_density
from genjax.edit.latent_density import Decode
from genjax.edit.operator import Operator
from genjax.numerics import check_floats, check_static, sum_per_example, widen

Distance = Callable[[Array, Array], Array]  # (A x [B, ...], y [B, ...]) -> [B]


class Projection(NamedTuple):
    """Latents whose images are near.

    Attributes:
      z: [B, *latent], or of the mapping's shape.
      x: their images, [B, *operator.shape].
      distance: of A x and y, [B].
      departure: of z from the mean latent, in units of what latents have of it, [B]: near 1 for
        latents that the generator was trained on, far above 1 for images it cannot make.
    """

    z: Array
    x: Array
    distance: Array
    departure: Array


def latent_moments(
    mapping: Callable[[Array], Array] | None, latent: tuple[int, ...], samples: int = 10_000
) -> tuple[Array, Array]:
    r"""Mean latent and spread of a generator's intermediate latents, from fixed noise.

    $$
    \mu_w = \mathbb E_z f(z), \qquad \sigma_w^2 = \mathbb E_z \lVert f(z) - \mu_w \rVert^2
    $$

    Args:
      mapping: f, z [N, *latent] -> w [N, ...]; None where w is z: then they are 0 and √d.
      latent: shape of one z.
      samples: N.

    Returns:
      μ_w, of the shape of one w, and σ_w, a scalar.

    References:
      Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020),
      arXiv:1912.04958, appendix D.
    """
    if mapping is None:
        zero = jnp.zeros(latent)
        return zero, jnp.sqrt(jnp.float32(zero.size))
    w = widen(mapping(jax.random.normal(jax.random.key(0), (samples, *latent))))
    mean = w.mean(0)
    return mean, jnp.sqrt(sum_per_example((w - mean[None]) ** 2).mean())


def project(
    decode: Decode,
    key: Array,
    y: Array,
    operator: Operator,
    *,
    latent: tuple[int, ...],
    mapping: Callable[[Array], Array] | None = None,
    distance: Distance | None = None,
    samples: int = 10_000,
    steps: int = 1000,
    rate: float = 0.1,
    noise: float = 0.05,
    noise_ramp: float = 0.75,
    warm_up: float = 0.05,
    cool_down: float = 0.25,
) -> Projection:
    r"""StyleGAN2's projection: from the mean latent down a distance, with noise that fades.

    $$
    \min_w\; d(A\, g(w + \epsilon_t),\, y), \qquad
    \epsilon_t \sim \mathcal N(0, s_t^2 I), \qquad
    s_t = 0.05\, \sigma_w \max(0,\, 1 - t / 0.75)^2
    $$

    by Adam, t going from 0 to 1; its rate rises over the first twentieth and falls over the last
    quarter by a cosine. It has no prior: read `departure`. Where the noise of y is known and
    several answers are wanted, take `latent_sampling.hmc`. The paper's noise inputs of the
    generator are not optimized: hold them fixed in `decode`.

    Args:
      decode: g, w [B, ...] -> x [B, *operator.shape], each example on its own.
      key: one key, or one per example [B]: then example i depends on key i alone.
      y: the image to find, or what was observed of it, [B, ...].
      operator: A, differentiable; of a mask of ones, y is the image.
      latent: shape of one z.
      mapping: f, z [N, *latent] -> w [N, ...], as a style generator has; None where w is z.
      distance: d, (A x [B, ...], y) -> [B], such as LPIPS; None for the mean squared difference.
      samples: of z for the moments of w.
      steps: of the descent.
      rate: of Adam at its greatest.
      noise: of the latent at the start, in units of σ_w.
      noise_ramp: share of the steps after which it is 0.
      warm_up: share of the steps over which the rate rises.
      cool_down: share of the steps over which it falls.

    Returns:
      Latents, images and how near they came.

    Raises:
      TypeError: where the steps or samples are traced.
      ValueError: where there is not 1 step, a share is not in 0..1, shapes do not fit each
        other, or there is another number of keys.

    References:
      Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020),
      arXiv:1912.04958, appendix D.
    """
    check_static(steps=steps, samples=samples)
    check_floats(y=y)
    if steps < 1 or not all(0 < share <= 1 for share in (noise_ramp, warm_up, cool_down)):
        shares = f"{noise_ramp}, {warm_up} and {cool_down}"
        raise ValueError(f"give at least 1 step and shares in 0..1, not {steps}, {shares}")
    each = latent_density.key_per_example(key, len(y))
    mean, std = latent_moments(mapping, latent, samples)
    w = jnp.tile(mean[None], (len(y),) + (1,) * mean.ndim)
    y, d = widen(y), _mean_square if distance is None else distance
    if (seen := jax.eval_shape(lambda w: operator(decode(w)), w).shape) != y.shape:
        raise ValueError(f"y has shape {y.shape}, but decoded images are observed as {seen}")

    def far(w: Array) -> Array:
        return d(operator(widen(decode(w))), y)

    def rate_at(step: Array) -> Array:
        t = step / steps
        fall = 0.5 - 0.5 * jnp.cos(jnp.pi * jnp.minimum(1, (1 - t) / cool_down))
        return rate * fall * jnp.minimum(1, t / warm_up)

    adam = optax.adam(rate_at)

    def step(carry: tuple[Array, optax.OptState], i: Array) -> tuple[tuple, None]:
        w, state = carry
        wide = noise * std * jnp.maximum(0, 1 - i / steps / noise_ramp) ** 2
        moved = w + wide * keys.normal(keys.fold_in(each, i), w.shape, w.dtype)
        change, state = adam.update(jax.grad(lambda w: far(w).sum())(moved), state)
        return (optax.apply_updates(w, change), state), None

    (w, _), _ = jax.lax.scan(step, (w, adam.init(w)), jnp.arange(steps))
    return Projection(w, decode(w), far(w), jnp.sqrt(sum_per_example((w - mean[None]) ** 2)) / std)


def _mean_square(seen: Array, y: Array) -> Array:
    return jnp.mean((seen - y) ** 2, axis=tuple(range(1, y.ndim)))
