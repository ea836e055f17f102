"""Layers that keep the magnitude of activations: EDM2's, where the magnitude is the RMS.

Weights have unit magnitude themselves, by `normalized` in each layer and, so that they do not grow
while the learning rate shrinks in effect, by `forced_normalization` after each update.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.scipy.special import ndtri

from genjax.models import convolution
from genjax.numerics import widen


def normalized(x: jax.Array, axes: tuple[int, ...] | int, epsilon: float = 1e-4) -> jax.Array:
    r"""Scales to unit magnitude.

    $$
    \frac{x}{\varepsilon + \sqrt{\operatorname{mean} x^2}}
    $$

    Args:
      x: any array.
      axes: that the mean is over; for pixel norm the channels.
      epsilon: ε.

    Returns:
      Like x.

    References:
      Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models" (2024),
      arXiv:2312.02696, section 2.3 and appendix B.
    """
    f = widen(x)
    total = jnp.sum(jnp.square(f), axes, keepdims=True)
    count = f.size // total.size
    # The root's gradient at 0 is not finite.
    size = jnp.where(total == 0, 0, jnp.sqrt(jnp.where(total == 0, 1, total) / count))
    return (f / (epsilon + size)).astype(x.dtype)


def silu(x: jax.Array) -> jax.Array:
    r"""SiLU that keeps the magnitude of N(0, 1).

    $$
    \frac{\mathrm{silu}(x)}{0.596}
    $$

    Args:
      x: any array.

    Returns:
      Like x.

    References:
      Karras et al. (2024), arXiv:2312.02696, eq. 81.
    """
    return nn.silu(x) / 0.596


def mixed(a: jax.Array, b: jax.Array, t: float = 0.5) -> jax.Array:
    r"""A weighted sum that keeps the magnitude of uncorrelated terms.

    $$
    \frac{(1 - t)\, a + t\, b}{\sqrt{(1 - t)^2 + t^2}}
    $$

    Args:
      a: any array, of unit magnitude.
      b: shaped like a.
      t: the weight of b, in 0..1.

    Returns:
      Like a.

    References:
      Karras et al. (2024), arXiv:2312.02696, eq. 88.
    """
    return (a + t * (b - a)) / math.hypot(1 - t, t)


def concatenated(a: jax.Array, b: jax.Array, t: float = 0.5) -> jax.Array:
    r"""Concatenation of channels that keeps the magnitude and says how much each part matters.

    $$
    \sqrt{\frac{n_a + n_b}{(1 - t)^2 + t^2}}\;
    \Bigl[\frac{1 - t}{\sqrt{n_a}}\, a,\; \frac{t}{\sqrt{n_b}}\, b\Bigr]
    $$

    Args:
      a: [..., n_a], of unit magnitude.
      b: [..., n_b], likewise.
      t: the weight of b in what follows, in 0..1.

    Returns:
      [..., n_a + n_b].

    References:
      Karras et al. (2024), arXiv:2312.02696, eq. 103.
    """
    n_a, n_b = a.shape[-1], b.shape[-1]
    scale = math.sqrt(n_a + n_b) / math.hypot(1 - t, t)
    parts = a * (scale * (1 - t) / math.sqrt(n_a)), b * (scale * t / math.sqrt(n_b))
    return jnp.concatenate(parts, -1)


def fourier_features(noise: jax.Array, features: int) -> jax.Array:
    r"""Fourier features of noise levels, of unit magnitude.

    $$
    \sqrt2\, \cos\bigl(2\pi (\omega_i u + \varphi_i)\bigr), \qquad
    \omega_i = \Phi^{-1}\!\Bigl(\frac{i + 1/2}{n}\Bigr), \quad
    \varphi_i = i\, \frac{\sqrt5 - 1}{2} \bmod 1
    $$

    The paper draws ω ~ N(0, 1) and φ ~ U(0, 1); here they are spread evenly over these
    distributions, so that a network has no constants to be kept beside its parameters.

    Args:
      noise: noise levels u, [B].
      features: n.

    Returns:
      [B, n].

    References:
      Karras et al. (2024), arXiv:2312.02696, eq. 75.
    """
    place = jnp.arange(features, dtype=jnp.float32)
    omega = ndtri((place + 0.5) / features)
    phase = place * ((math.sqrt(5) - 1) / 2) % 1
    angle = noise.astype(jnp.float32)[:, None] * omega[None] + phase[None]
    return math.sqrt(2) * jnp.cos(2 * math.pi * angle)


def _unit_normal(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    return normalized(jax.random.normal(key, shape, dtype), tuple(range(len(shape) - 1)))


class MPConv(nn.Module):
    r"""A convolution or dense layer that keeps the magnitude, without a bias.

    $$
    y = \frac{\mathrm{gain}}{\sqrt n}\, x * \mathrm{normalized}(w)
    $$

    for n inputs of each output.

    Args:
      features: output channels.
      kernel_size: of rows and columns; () for a dense layer.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From x [B, H, W, C], or [B, C] for a dense layer, and a gain, a number or a scalar: y.

    References:
      Karras et al. (2024), arXiv:2312.02696, eq. 47.
    """

    features: int
    kernel_size: tuple[int, ...] = ()
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, gain: jax.Array | float = 1.0) -> jax.Array:
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", _unit_normal, shape, self.param_dtype)
        others = tuple(range(len(shape) - 1))
        kernel = normalized(widen(kernel), others) * (gain / math.sqrt(math.prod(shape[:-1])))
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype or x.dtype)
        return convolution.conv(x, kernel) if self.kernel_size else x @ kernel


def forced_normalization(params: Any) -> Any:
    """Parameters of magnitude-preserving networks with weights of unit magnitude.

    What a layer computes does not change. To be applied after each update: Adam's steps would make
    weights grow, and their effect on the directions of the weights shrink.

    Args:
      params: a tree of parameters; scalars are gains.

    Returns:
      The tree, with the weights of each output of every layer scaled to unit magnitude.

    References:
      Karras et al. (2024), arXiv:2312.02696, eq. 66 and section 2.3.
    """

    def unit(leaf: jax.Array) -> jax.Array:
        return normalized(leaf, tuple(range(leaf.ndim - 1))) if leaf.ndim > 1 else leaf

    return jax.tree.map(unit, params)
