"""MeanFlow: learning the average velocity between two times, for generation in one step."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys
from genjax.numerics import check_floats, check_prediction, expand, sum_per_example, widen


def logit_normal_pairs(
    mean: float = -0.4, std: float = 1.0, distinct: float = 0.25
) -> Callable[[Array, int], tuple[Array, Array]]:
    r"""A sampler of r ≤ t: two draws of a logit-normal distribution put in order.

    $$
    r = \min(a, b), \quad t = \max(a, b), \qquad
    \mathrm{logit}(a), \mathrm{logit}(b) \sim N(\mathrm{mean}, \mathrm{std}^2)
    $$

    r = t in all but a share `distinct` of the examples, which learn the velocity itself. The
    defaults are the paper's for ImageNet.

    Args:
      mean: of the logits.
      std: of the logits.
      distinct: the probability that r and t differ, in 0..1.

    Returns:
      pairs(key, n) -> (r, t), each [n]; key is one key or one per example.

    References:
      Geng et al., "Mean Flows for One-step Generative Modeling" (2025), arXiv:2505.13447.
    """

    def pairs(key: Array, n: int) -> tuple[Array, Array]:
        pair_key, distinct_key = keys.split(key, 2, n)
        pair = jax.nn.sigmoid(mean + std * keys.normal(pair_key, (n, 2), jnp.float32))
        low, high = jnp.min(pair, axis=-1), jnp.max(pair, axis=-1)
        differ = keys.draw(lambda k, s: jax.random.bernoulli(k, distinct, s), distinct_key, (n,))
        return jnp.where(differ, low, high), high

    return pairs


def meanflow(
    predict: Callable[[Array, Array, Array], Array],
    x: Array,
    key: Array,
    *,
    times: tuple[Array, Array] | Callable[[Array, int], tuple[Array, Array]],
    guide: Callable[[Array, Array, Array], Array] | None = None,
    power: float = 1.0,
    constant: float = 1e-3,
) -> Array:
    r"""The MeanFlow loss with its adaptive weight.

    $$
    \frac{\lVert \Delta \rVert^2}{\mathrm{sg}(\lVert \Delta \rVert^2 + c)^p}, \qquad
    \Delta = u(z_t, r, t) - \mathrm{sg}\bigl(v - (t - r) (v \, \partial_z u + \partial_t u)\bigr),
    \qquad v = \varepsilon - x, \quad z_t = (1 - t) \, x + t \, \varepsilon
    $$

    u is the mean velocity from r to t, so that a sample is ε − u(ε, 0, 1). With p = 1 the value
    itself says little, being near 1; p = 0 leaves the plain ‖Δ‖².

    Args:
      predict: (z [B, ...], r [B], t [B]) -> u, of x's shape.
      x: clean data, [B, ...].
      key: one key, or one per example [B].
      times: (r, t), each [B] with r ≤ t, or a sampler such as `logit_normal_pairs()`.
      guide: (z, t, v) -> a guided v, such as w·v + (1 − w)·u(z, t, t) without condition; gradients
        stop there. None for v as it is.
      power: p.
      constant: c; 1e-3 as in the paper. The authors' code has norm_eps = 1e-2.

    Returns:
      [B], summed over the elements of an example.

    Raises:
      TypeError: where `times` is no pair and no function.
      ValueError: where x is of integers, the times are not [B], not in 0..1 or r > t, or u is not
        of x's shape.

    References:
      Geng et al., "Mean Flows for One-step Generative Modeling" (2025), arXiv:2505.13447,
        algorithm 1 and section 4.3.
    """
    check_floats(x=x)
    time_key, noise_key = keys.split(key, 2, x.shape[0])
    r, t = keys.draw_time_pairs(times, time_key, x)
    clean = widen(x)
    eps = keys.normal(noise_key, x.shape, clean.dtype)
    z = (expand(1 - t, x) * clean + expand(t, x) * eps).astype(x.dtype)
    velocity = eps - clean
    if guide is not None:
        velocity = jax.lax.stop_gradient(guide(z, t, velocity))
    tangents = (velocity.astype(x.dtype), jnp.zeros_like(r), jnp.ones_like(t))
    u, change = jax.jvp(predict, (z, r, t), tangents)
    check_prediction(u, x)
    wanted = jax.lax.stop_gradient(velocity - expand(t - r, x) * change)
    squared = sum_per_example((u - wanted) ** 2)
    return squared / jax.lax.stop_gradient((squared + constant) ** power)
