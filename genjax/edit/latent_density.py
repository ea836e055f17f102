"""The density of a decoder's latent given an observation: what every solver of decoders shares."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys
from genjax.edit.operator import Operator
from genjax.numerics import check_floats, expand, is_traced, sum_per_example, widen

Decode = Callable[[Array], Array]  # z [B, *latent] -> x [B, *shape]
LogPrior = Callable[[Array], Array]  # z [B, *latent] -> log p(z) [B]


def log_joint(
    decode: Decode,
    y: Array,
    operator: Operator,
    *,
    latent: tuple[int, ...],
    noise: float | Array,
    log_prior: LogPrior | None = None,
) -> Callable[[Array], Array]:
    r"""log p(y|z) + log p(z), up to a constant, for several latents per example.

    $$
    -\frac{\lVert y - A\, g(z) \rVert^2}{2 \sigma_y^2} + \log p(z)
    $$

    Args:
      decode: g, z [B, *latent] -> x [B, *operator.shape], each example on its own. It sees B rows
        in the order of y, so that it may close over labels [B].
      y: what was observed, [B, ...].
      operator: A.
      latent: shape of one z.
      noise: σ_y, a positive scalar or one value per example [B].
      log_prior: z [B, *latent] -> [B]; None for N(0, I).

    Returns:
      A function z [B, n, *latent] -> [B, n].

    Raises:
      ValueError: where the noise is not positive, or shapes do not fit each other.
    """
    check_floats(y=y)
    size = y.shape[0]
    std = jnp.asarray(noise, jnp.float32)
    if std.shape not in {(), (size,)}:
        raise ValueError(f"noise must be a scalar or one value per example [{size}]: {std.shape}")
    if not is_traced(noise):
        with jax.ensure_compile_time_eval():
            if not bool((jnp.asarray(noise) > 0).all()):
                raise ValueError("noise must be positive: it weighs observation against prior")
    start = jax.ShapeDtypeStruct((size, *latent), jnp.float32)
    if (seen := jax.eval_shape(lambda z: operator(decode(z)), start).shape) != y.shape:
        raise ValueError(f"y has shape {y.shape}, but decoded images are observed as {seen}")
    y = widen(y)

    def one(z: Array) -> Array:
        residual = (y - operator(widen(decode(z)))) / expand(std, y)
        prior = -0.5 * sum_per_example(z**2) if log_prior is None else log_prior(z)
        return prior - 0.5 * sum_per_example(residual**2)

    return jax.vmap(one, 1, 1)


def precision(decode: Decode, operator: Operator, z: Array, noise: float | Array) -> Array:
    r"""The curvature of the log density by Gauss and Newton, for a prior N(0, I).

    $$
    I + \frac{1}{n} \sum_{c=1}^{n} \frac{J_c^\top J_c}{\sigma_y^2}, \qquad
    J_c = \frac{\partial A\, g}{\partial z} \Big|_{z_c}
    $$

    Of a linear decoder it is the inverse of the posterior's covariance. One column is computed at a
    time, for as much as a gradient costs.

    Args:
      decode: g, z [B, *latent] -> x.
      operator: A.
      z: [B, n, *latent].
      noise: σ_y, a scalar or one value per example [B].

    Returns:
      [B, d, d], d numbers in a latent.
    """
    size, std = z[0, 0].size, jnp.asarray(noise, jnp.float32)

    def seen(z: Array) -> Array:
        observed = operator(widen(decode(z)))
        return observed / expand(std, observed)

    every = jax.vmap(seen, 1, 1)

    def column(k: Array) -> Array:
        along = jnp.zeros((*z.shape[:2], size)).at[..., k].set(1).reshape(z.shape)
        change = jax.jvp(every, (z,), (along,))[1]
        back = jax.vjp(every, z)[1](change)[0]
        return back.mean(1).reshape(len(z), size)

    return jnp.eye(size)[None] + jnp.moveaxis(jax.lax.map(column, jnp.arange(size)), 0, 1)


def with_gradient(density: Callable[[Array], Array], z: Array) -> tuple[Array, Array]:
    """A density of latents and its gradient.

    Args:
      density: z [B, n, *latent] -> [B, n], as `log_joint` returns it.
      z: [B, n, *latent].

    Returns:
      The values [B, n] and the gradients [B, n, *latent].
    """
    value, back = jax.vjp(density, z)
    return value, back(jnp.ones_like(value))[0]


def starts(key: Array, start: Array | None, shape: tuple[int, ...]) -> Array:
    """The latents that a solver starts from.

    Args:
      key: one key per example [B].
      start: of `shape`, or None to draw them from N(0, I).
      shape: (B, n, *latent).

    Returns:
      [B, n, *latent], float32 at least.

    Raises:
      ValueError: where `start` is of another shape or of integers.
    """
    if start is None:
        return keys.normal(keys.fold_in(key, 0), shape, jnp.float32)
    check_floats(start=start)
    if start.shape != shape:
        raise ValueError(f"start must have shape {shape}, not {start.shape}")
    return widen(start)


def key_per_example(key: Array, batch: int) -> Array:
    """One key per example, of one key or of as many as there are examples.

    Args:
      key: one key, or one per example [B].
      batch: B.

    Returns:
      Keys [B].

    Raises:
      ValueError: for a batch of keys of another length than B.
    """
    keys.check_batch(key, batch)
    return keys.per_example(key, batch) if keys.is_single(key) else key


def misfit(operator: Operator, y: Array, x: Array, noise: float | Array) -> Array:
    r"""How far images are from explaining an observation, in units of its noise.

    $$
    \sqrt{\frac{1}{m} \sum_{j=1}^{m} \frac{(y - A x)_j^2}{\sigma_y^2}}
    $$

    over the m entries of y that depend on the image at all: not those that a mask hides. It is near
    1 where the noise is right. Far above 1 the decoder cannot express the image: raise `noise` to
    what is left of reconstructions, or distrust the answer.

    Args:
      operator: A.
      y: [B, ...].
      x: [B, *operator.shape].
      noise: σ_y, a scalar or one value per example [B].

    Returns:
      [B].
    """
    probe = jax.random.normal(jax.random.key(0), x.shape, jnp.float32)
    seen = operator(probe) != operator(jnp.zeros_like(probe))
    total = sum_per_example((widen(y) - operator(widen(x))) ** 2)
    std = jnp.broadcast_to(jnp.asarray(noise, jnp.float32), total.shape)
    return jnp.sqrt(total / jnp.maximum(sum_per_example(seen), 1)) / std


def whitened(decode: Decode, codes: Array) -> Callable[[Array], Array]:
    r"""A decoder of N(0, I) for an autoencoder, whose codes follow no distribution in particular.

    $$
    g'(u) = g(\mu + L u), \qquad L L^\top = \Sigma
    $$

    with mean and covariance of the codes of training images. It makes the prior of `log_joint` the
    Gaussian that is fitted to them.

    Args:
      decode: g, z [B, *latent] -> x.
      codes: [N, *latent], more of them than numbers in a code.

    Returns:
      g', u [B, *latent] -> x.

    Raises:
      ValueError: where there are no more codes than numbers in a code, or they are of integers.
    """
    check_floats(codes=codes)
    rows = widen(codes).reshape(len(codes), -1)
    n, size = rows.shape
    if n <= size:
        raise ValueError(f"codes of {size} numbers need more than {size} images, not {n}")
    mean = rows.mean(0)
    covariance = (rows - mean[None]).T @ (rows - mean[None]) / (n - 1)
    # Numbers that the encoder does not use have no variance: Cholesky's method needs some.
    floor = 1e-6 * jnp.trace(covariance) / size
    factor = jnp.linalg.cholesky(covariance + floor * jnp.eye(size))

    def decoded(u: Array) -> Any:
        z = mean[None] + u.reshape(len(u), -1) @ factor.T
        return decode(z.reshape(u.shape))

    return decoded
