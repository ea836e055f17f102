"""Initial values that depend on the data."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def logit_of_mean(mean: Callable[[], Any]) -> Callable[..., jax.Array]:
    """An initializer of the bias with which a sigmoid's output is the mean image.

    Args:
      mean: () -> the mean image in 0..1, with as many elements as the bias. It is called when the
        bias is initialised, not under `jax.eval_shape`.

    Returns:
      An initializer, (key, shape, dtype) -> bias; means are clipped to 0.001..0.999.
    """

    def clipped() -> Any:
        return mean().ravel().clip(0.001, 0.999).astype("float32")

    def initialize(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        p = jax.pure_callback(clipped, jax.ShapeDtypeStruct(shape, jnp.float32))
        return jnp.log(p / (1 - p)).astype(dtype)

    return initialize
