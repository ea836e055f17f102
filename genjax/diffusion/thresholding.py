"""Thresholding of the predicted data: functions for the `clip` argument of a sampler.

Read them with the module's name in front: `thresholding.static`, `thresholding.dynamic`.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from genjax.numerics import check_floats, expand


def static(low: float = -1.0, high: float = 1.0) -> Callable[[Array], Array]:
    r"""Clips each element by itself.

    $$
    \hat x \mapsto \min(\max(\hat x, \mathrm{low}), \mathrm{high})
    $$

    Args:
      low: in the unit of x.
      high: likewise.

    Returns:
      A function of x̂ [B, ...], which raises ValueError for integers.

    References:
      Ho et al., "Denoising Diffusion Probabilistic Models" (2020), arXiv:2006.11239.
    """

    def clip(data: Array) -> Array:
        check_floats(data=data)
        return jnp.clip(data, low, high)

    return clip


def dynamic(quantile: float = 0.995, limit: float = 1.0) -> Callable[[Array], Array]:
    r"""Clips each example at a quantile of its own, and scales it back to the limit.

    $$
    \hat x \mapsto \min(\max(\hat x, -s), s)\, \frac{\mathrm{limit}}{s}, \qquad
    s = \max(\mathrm{limit}, Q_p(|\hat x|))
    $$

    Where few elements leave [−limit, limit] this is static thresholding; where many do, they are
    drawn inwards instead of saturating.

    Args:
      quantile: p, in [0, 1], over the elements of one example.
      limit: in the unit of x.

    Returns:
      A function of x̂ [B, ...], which raises ValueError for integers.

    References:
      Saharia et al., "Photorealistic Text-to-Image Diffusion Models with Deep Language
      Understanding" (2022), arXiv:2205.11487, section 2.3.
    """

    def clip(data: Array) -> Array:
        check_floats(data=data)
        size = jnp.abs(data).reshape(data.shape[0], -1)
        s = jnp.maximum(jnp.quantile(size.astype(jnp.float32), quantile, axis=1), limit)
        s = expand(s, data).astype(data.dtype)
        return jnp.clip(data, -s, s) * (limit / s)

    return clip
