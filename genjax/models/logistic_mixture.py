"""The numbers of a mixture of logistics per pixel, as a network returns them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def outputs(channels: int, k: int) -> int:
    """Numbers per pixel.

    Args:
      channels: C of an image.
      k: logistics per mixture.

    Returns:
      k·(1 + 2C + C(C−1)/2).
    """
    return k * (1 + 2 * channels + channels * (channels - 1) // 2)


def split(parameters: jax.Array, channels: int, k: int) -> list[jax.Array]:
    """The parts that `losses.likelihoods.discretized_logistic_mixture_nll` takes as one array.

    Args:
      parameters: [B, H, W, outputs].
      channels: C of an image.
      k: logistics per mixture.

    Returns:
      Logits [B, H, W, 1, k], means [B, H, W, C, k], log scales like these, and couplings of the
      channels [B, H, W, C(C−1)/2, k].
    """
    parts = parameters.reshape(*parameters.shape[:-1], -1, k)
    return jnp.split(parts, (1, 1 + channels, 1 + 2 * channels), axis=-2)


def floored(parameters: jax.Array, channels: int, k: int, *, shift: float = 0.0) -> jax.Array:
    """Log scales of at least −7: narrower logistics of images in −1..1 tell no grey levels apart.

    Args:
      parameters: [B, H, W, outputs].
      channels: C of an image.
      k: logistics per mixture.
      shift: added to the log scales before.

    Returns:
      Like `parameters`.

    References:
      Salimans et al., "PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture
      Likelihood and Other Modifications" (2017), arXiv:1701.05517, whose code has this floor.
    """
    logits, mean, log_scale, coupling = split(parameters, channels, k)
    log_scale = jnp.maximum(log_scale + shift, -7)
    return jnp.concatenate([logits, mean, log_scale, coupling], -2).reshape(parameters.shape)


def likeliest(parameters: jax.Array, channels: int, k: int) -> jax.Array:
    """The mean of each pixel's likeliest logistic: a draw would add the noise of every pixel.

    Args:
      parameters: [B, H, W, outputs], of images in −1..1.
      channels: C of an image.
      k: logistics per mixture.

    Returns:
      Images [B, H, W, C] in 0..1.
    """
    logits, mean, _, coupling = split(parameters, channels, k)
    best = jnp.argmax(logits, axis=-1, keepdims=True)  # [B, H, W, 1, 1]
    mean, coupling = (jnp.take_along_axis(part, best, -1)[..., 0] for part in (mean, coupling))
    return (_coupled(mean, coupling, lambda value: jnp.clip(value, -1, 1)) + 1) / 2


def draw(
    parameters: jax.Array, uniform: jax.Array, channels: int, k: int, *, bins: int = 256
) -> jax.Array:
    r"""Pixels with the probabilities that the mixture gives them.

    The first number picks a logistic by the cumulated weights. Each channel in turn is the value

    $$
    \mu_c + \sum_{d<c} \tanh(a_{cd})\, x_d + s_c \log \frac{u}{1 - u}
    $$

    at the nearest of the levels, the outer of which take what lies beyond.

    Args:
      parameters: [..., outputs], of images in −1..1.
      uniform: numbers in 0..1, [..., 1 + C].
      channels: C of an image.
      k: logistics per mixture.
      bins: number of levels from −1 to 1.

    Returns:
      [..., C], levels in −1..1.

    References:
      Salimans et al., "PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture
      Likelihood and Other Modifications" (2017), arXiv:1701.05517, section 2.1 and 2.2. Its code
      does not round: here the channels after one see the level that the likelihood would.
    """
    logits, mean, log_scale, coupling = split(parameters, channels, k)
    below = jnp.cumsum(jax.nn.softmax(logits), -1) <= uniform[..., :1, None]
    chosen = jnp.minimum(below.sum(-1, keepdims=True), k - 1)  # sums of rounded weights end near 1
    mean, log_scale, coupling = (
        jnp.take_along_axis(part, chosen, -1)[..., 0] for part in (mean, log_scale, coupling)
    )
    u = uniform[..., 1:]
    values = mean + jnp.exp(log_scale) * (jnp.log(u) - jnp.log1p(-u))
    steps = (bins - 1) / 2
    return _coupled(
        values, coupling, lambda value: jnp.round((jnp.clip(value, -1, 1) + 1) * steps) / steps - 1
    )


def _coupled(
    values: jax.Array, coupling: jax.Array, level: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """Each channel in turn: the level of its value and of the channels before, as coupled."""
    image: list[jax.Array] = []
    pair = 0
    for c in range(values.shape[-1]):
        value = values[..., c]
        for before in image:
            value, pair = value + jnp.tanh(coupling[..., pair]) * before, pair + 1
        image.append(level(value))
    return jnp.stack(image, -1)
