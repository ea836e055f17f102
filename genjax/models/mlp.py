"""A residual MLP that denoises vectors, such as for a diffusion prior over codes."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.models import conditioning
from genjax.models.layers import Dropout, time_embedding


class MLP(nn.Module):
    r"""A denoising MLP: residual blocks with adaptive scale and shift.

    $$
    x + W_2\, \mathrm{silu}\bigl(W_1 \mathrm{LayerNorm}(x)\, (1 + \mathrm{scale}(t))
      + \mathrm{shift}(t)\bigr)
    $$

    W₂ and the output layer are initialised at zero.

    Args:
      width: features of the hidden layers.
      blocks: number of residual blocks.
      classes: number of classes K to condition on; None for an unconditional network.
      dropout: probability.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From z [B, n], times t [B] in [0, 1] and labels [B] in 0..K: the prediction, [B, n]. The label
      K, and None for labels, mean "no class" (classifier-free guidance). keys: one PRNG key per
      example [B], for the dropout, or None for no dropout.

    Raises:
      ValueError: for labels where `classes` is None.
    """

    width: int = 512
    blocks: int = 3
    classes: int | None = None
    dropout: float = 0.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        z: jax.Array,
        t: jax.Array,
        label: jax.Array | None = None,
        *,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        conditioning.check(label, self.classes)
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        emb = nn.Dense(self.width, **kinds)(time_embedding(t, 128))
        if self.classes is not None:
            embed = conditioning.ClassEmbedding(self.classes, self.width, **kinds)
            emb = emb + embed(label, z.shape[0])
        emb = nn.silu(emb)
        x = nn.Dense(self.width, **kinds)(z)
        for _ in range(self.blocks):
            scale, shift = jnp.split(nn.Dense(2 * self.width, **kinds)(emb), 2, axis=-1)
            h = nn.LayerNorm(**kinds)(x)
            h = nn.silu(nn.Dense(self.width, **kinds)(h) * (1 + scale) + shift)
            h = Dropout(self.dropout)(h, keys)
            x = x + nn.Dense(self.width, kernel_init=nn.initializers.zeros, **kinds)(h)
        x = nn.silu(nn.LayerNorm(**kinds)(x))
        return nn.Dense(z.shape[-1], kernel_init=nn.initializers.zeros, **kinds)(x)
