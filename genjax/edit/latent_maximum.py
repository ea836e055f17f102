"""The most probable latent of a decoder given an observation."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from genjax.edit import latent_density
from genjax.edit.latent_density import Decode, LogPrior
from genjax.edit.operator import Operator
from genjax.numerics import check_static


class Maximum(NamedTuple):
    """The most probable latents that were found.

    Attributes:
      z: the best latent of each example, [B, *latent].
      x: its image, [B, *operator.shape].
      ends: where each start ended, [B, starts, *latent]; starts for `latent_sampling.hmc`.
      log_joint: log p(y|z) + log p(z) there, up to a constant, [B, starts]. Starts that end at
        different values were caught in local maxima.
      best: which start was the best, [B].
      gradient_norm: of the log density at z, [B]; 0 at a maximum.
      misfit: root mean square of (y − A x)/σ_y at x, [B], see `latent_density.misfit`.
    """

    z: Array
    x: Array
    ends: Array
    log_joint: Array
    best: Array
    gradient_norm: Array
    misfit: Array


def maximum_a_posteriori(
    decode: Decode,
    key: Array,
    y: Array,
    operator: Operator,
    *,
    latent: tuple[int, ...],
    noise: float | Array,
    log_prior: LogPrior | None = None,
    start: Array | None = None,
    starts: int = 8,
    steps: int = 500,
    rate: float = 0.1,
) -> Maximum:
    r"""Gradient ascent to the most probable latent, from many starts.

    $$
    \hat z = \arg\max_z\; -\frac{\lVert y - A\, g(z) \rVert^2}{2 \sigma_y^2} + \log p(z)
    $$

    Adam, whose rate falls to 0 by a cosine. One answer, and the sharpest: it shows neither how
    uncertain it is nor what else would explain y; `latent_sampling.hmc` does.

    Args:
      decode: g, z [B, *latent] -> x [B, *operator.shape], each example on its own.
      key: one key, or one per example [B]: then example i depends on key i alone.
      y: what was observed, [B, ...].
      operator: A, not necessarily linear, but differentiable.
      latent: shape of one z.
      noise: σ_y in units of x, a positive scalar or one value per example [B]: of y's noise and of
        what the decoder cannot express together.
      log_prior: z [B, *latent] -> [B], differentiable; None for N(0, I).
      start: [B, starts, *latent]; None to draw them from N(0, I).
      starts: how many per example.
      steps: of the ascent.
      rate: of Adam at the first step.

    Returns:
      The best latent per example and its image, with what each start found.

    Raises:
      TypeError: where `starts` or `steps` is traced.
      ValueError: where the noise is not positive, starts or steps are fewer than 1, shapes do not
        fit each other, or there is another number of keys.

    References:
      Bora et al., "Compressed Sensing using Generative Models" (2017), arXiv:1703.03208.
      Kingma & Ba, "Adam: A Method for Stochastic Optimization" (2015), arXiv:1412.6980.
    """
    check_static(starts=starts, steps=steps)
    if min(starts, steps) < 1:
        raise ValueError(f"give at least one start and one step, not {starts} and {steps}")
    density = latent_density.log_joint(
        decode, y, operator, latent=latent, noise=noise, log_prior=log_prior
    )
    each = latent_density.key_per_example(key, len(y))
    z = latent_density.starts(each, start, (len(y), starts, *latent))
    # The objective has no noise: its second moments are those of the last steps, not of the first.
    adam = optax.adam(optax.cosine_decay_schedule(rate, steps), b2=0.99)

    def step(carry: tuple[Array, optax.OptState], _: None) -> tuple[tuple, None]:
        z, state = carry
        gradient = latent_density.with_gradient(density, z)[1]
        change, state = adam.update(-gradient, state)
        return (optax.apply_updates(z, change), state), None

    (ends, _), _ = jax.lax.scan(step, (z, adam.init(z)), length=steps)
    value, gradient = latent_density.with_gradient(density, ends)
    best = jnp.argmax(jnp.where(jnp.isnan(value), -jnp.inf, value), axis=1)
    rows = jnp.arange(len(y))
    found = ends[rows, best]
    x = decode(found)
    norm = jnp.sqrt(jnp.sum(gradient[rows, best] ** 2, axis=tuple(range(1, found.ndim))))
    fit = latent_density.misfit(operator, y, x, noise)
    return Maximum(found, x, ends, value, best, norm, fit)
