"""Diffusion transformers: the blocks of DiT and SiT, and those of JiT."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.models import conditioning
from genjax.models.attention import attend
from genjax.models.layers import Dropout, time_embedding
from genjax.models.positions import rotary_angles, rotate, sine_positions

FREQUENCIES = 256  # of the embedding of a time, sines and cosines together, as in DiT's code

_xavier = nn.initializers.xavier_uniform()
_small = nn.initializers.normal(0.02)


class SelfAttention(nn.Module):
    """Self-attention over tokens.

    Args:
      heads: number of heads, which divides C.
      normalize: whether queries and keys are normalised by an RMSNorm per head (qk-norm), so that
        logits cannot grow with them.
      causal: whether a token sees itself and those before it alone. With a collection "cache" of
        "keys" and "values" [B, S, heads, C / heads] and a "place", the tokens are those from that
        place on in a sequence of S, whose earlier keys and values are there.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From tokens x [B, T, C] and angles [T, C / heads / 2] of their positions, or None for no
      rotation: [B, T, C].

    References:
      Vaswani et al., "Attention Is All You Need" (2017), arXiv:1706.03762, section 3.2.
      Henry et al., "Query-Key Normalization for Transformers" (2020), arXiv:2010.04245.
    """

    heads: int
    normalize: bool = False
    causal: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, angles: jax.Array | None = None) -> jax.Array:
        b, t, c = x.shape
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        qkv = nn.Dense(3 * c, kernel_init=_xavier, name="qkv", **kinds)(x)
        q, k, v = jnp.moveaxis(qkv.reshape(b, t, 3, self.heads, c // self.heads), 2, 0)
        if self.normalize:
            q, k = (nn.RMSNorm(name=n, **kinds)(a) for n, a in (("q_norm", q), ("k_norm", k)))
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        mask = jnp.tril(jnp.ones((t, t), bool)) if self.causal else None
        if self.causal and self.has_variable("cache", "place"):
            k, v, mask = self._remembered(k, v)
        y = attend(q, k, v, mask).reshape(x.shape)
        return nn.Dense(c, kernel_init=_xavier, name="out", **kinds)(y)

    def _remembered(self, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Keys and values of the sequence so far, and which of them each token sees."""
        place: Any = self.variable("cache", "place")
        for name, new in (("keys", k), ("values", v)):
            kept: Any = self.variable("cache", name)
            new = new.astype(kept.value.dtype)
            kept.value = jax.lax.dynamic_update_slice_in_dim(kept.value, new, place.value, 1)
        k, v = (self.get_variable("cache", name) for name in ("keys", "values"))
        own = place.value + jnp.arange(new.shape[1])
        place.value = place.value + new.shape[1]
        return k, v, jnp.arange(k.shape[1])[None] <= own[:, None]


class Block(nn.Module):
    r"""A transformer block whose normalisations and branches the condition scales: adaLN-zero.

    $$
    \begin{aligned}
    (\beta_1, \gamma_1, g_1, \beta_2, \gamma_2, g_2) &= W \, \mathrm{silu}(c) + b, \\
    x &\mapsto x + g_1 \, \mathrm{attention}((1 + \gamma_1) \, \mathrm{norm}(x) + \beta_1), \\
    x &\mapsto x + g_2 \, \mathrm{mlp}((1 + \gamma_2) \, \mathrm{norm}(x) + \beta_2)
    \end{aligned}
    $$

    W and b are initialised at zero, so that the block starts as the identity.

    Args:
      heads: number of attention heads.
      jit: the parts of JiT: RMSNorm, SwiGLU, queries and keys normalised. Those of DiT else:
        LayerNorm without scale and bias, and an MLP with GELU.
      dropout: probability, of the outputs of attention and within the MLP.
      causal: as in `SelfAttention`.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From tokens x [B, T, C], silu of the condition c [B, C], angles of the positions for
      `SelfAttention` and keys [B] for the dropout, or None: [B, T, C].

    References:
      Peebles & Xie, "Scalable Diffusion Models with Transformers" (2022), arXiv:2212.09748,
      section 3.2.
      Shazeer, "GLU Variants Improve Transformer" (2020), arXiv:2002.05202.
      Li & He, "Back to Basics: Let Denoising Generative Models Denoise" (2025), arXiv:2511.13720.
    """

    heads: int
    jit: bool = False
    dropout: float = 0.0
    causal: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        condition: jax.Array,
        angles: jax.Array | None,
        keys: jax.Array | None,
    ) -> jax.Array:
        c = x.shape[-1]
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        parts = _modulation(condition, 6 * c, **kinds)
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = jnp.split(parts, 6, axis=-1)
        h = _norm("norm_0", self.jit, **kinds)(x) * (1 + scale) + shift
        attention = SelfAttention(self.heads, self.jit, self.causal, name="attention", **kinds)
        h = attention(h, angles)
        x = x + gate * Dropout(self.dropout)(h, keys)
        h = _norm("norm_1", self.jit, **kinds)(x) * (1 + mlp_scale) + mlp_shift
        if self.jit:
            width = 4 * c * 2 // 3  # three matrices with as many parameters as the MLP's two
            h = nn.Dense(2 * width, kernel_init=_xavier, name="mlp_in", **kinds)(h)
            h = nn.silu(h[..., :width]) * h[..., width:]
        else:
            h = nn.gelu(nn.Dense(4 * c, kernel_init=_xavier, name="mlp_in", **kinds)(h))
        h = Dropout(self.dropout)(h, keys)
        return x + mlp_gate * nn.Dense(c, kernel_init=_xavier, name="mlp_out", **kinds)(h)


def _modulation(condition: jax.Array, features: int, **kinds: Any) -> jax.Array:
    """Shifts, scales and gates [B, 1, features], at first 0."""
    zeros = nn.initializers.zeros
    return nn.Dense(features, kernel_init=zeros, name="modulation", **kinds)(condition)[:, None]


def _norm(name: str, jit: bool, **kinds: Any) -> nn.Module:
    if jit:
        return nn.RMSNorm(name=name, **kinds)
    return nn.LayerNorm(use_bias=False, use_scale=False, name=name, **kinds)


class TimeEmbedder(nn.Module):
    r"""An embedding of times: sines and cosines, then two layers.

    $$
    \left|\frac{d}{dt} \sin(s \, \omega \, t)\right| \le s \qquad \text{for all } \omega \le 1
    $$

    so that s = 1 makes networks that are smooth in time, as losses that differentiate in t need
    (`losses.meanflow`), and s = 1,000 networks that know the time exactly from the start.

    Args:
      features: of the embedding.
      scale: s, by which times in 0..1 are multiplied.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From t [B]: [B, features].

    References:
      Peebles & Xie, "Scalable Diffusion Models with Transformers" (2022), arXiv:2212.09748, its
      code.
    """

    features: int
    scale: float = 1.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, t: jax.Array) -> jax.Array:
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype, "kernel_init": _small}
        y = time_embedding(t, FREQUENCIES, scale=self.scale, endpoint=False)
        y = nn.silu(nn.Dense(self.features, **kinds)(y))
        return nn.Dense(self.features, **kinds)(y)


class Transformer(nn.Module):
    """A transformer on the patches of an image that predicts noise, data or velocity.

    The defaults are DiT's and SiT's blocks and fixed sine positions. The last layer is initialised
    at zero, as in those.

    Args:
      patch: side of a patch in pixels, which divides H and W.
      width: features C of a token.
      depth: number of blocks.
      heads: attention heads per block.
      jit: JiT's blocks with rotary positions in place of DiT's, see `Block`.
      positions: "sine" for fixed positions, "learned" for parameters.
      bottleneck: features between pixels and tokens (JiT); None for one linear layer.
      context: tokens that hold the class beside those of the patches (JiT), where there are
        classes.
      context_start: the block that these come in before.
      skips: U-ViT's long skips: each block of the second half takes the output of one of the first
        beside its input, the last that of the first.
      time_scale: by which times are multiplied, see `TimeEmbedder`: 1 in SiT and JiT; 1,000 are
        the steps of DiT.
      spans: whether the network knows a second time, of which `span` is the distance.
      dropout: probability.
      classes: number of classes K to condition on; None for an unconditional network.
      out_channels: of the prediction; None for those of the image.
      remat: whether the gradient recomputes each block instead of storing its activations: less
        memory on a GPU or TPU, a third more work. On the CPU XLA undoes it.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From z [B, H, W, C], times t [B] in [0, 1] and labels [B] in 0..K: the prediction, of z's
      dtype. The label K, and None for labels, mean "no class" (classifier-free guidance). span [B]:
      distance of the second time, where the network has one. keys: one PRNG key per example [B],
      for the dropout, or None for no dropout.

    Raises:
      ValueError: where `patch` does not divide the sides, `heads` not the width, or a setting has
        another value than those above; for labels where `classes` is None; where `span` is missing
        or not wanted.

    References:
      Peebles & Xie, "Scalable Diffusion Models with Transformers" (2022), arXiv:2212.09748.
      Ma et al., "SiT: Exploring Flow and Diffusion-based Generative Models with Scalable
      Interpolant Transformers" (2024), arXiv:2401.08740.
      Bao et al., "All are Worth Words: A ViT Backbone for Diffusion Models" (2022),
      arXiv:2209.12152.
      Li & He, "Back to Basics: Let Denoising Generative Models Denoise" (2025), arXiv:2511.13720.
    """

    patch: int = 2
    width: int = 384
    depth: int = 12
    heads: int = 6
    jit: bool = False
    positions: str = "sine"
    bottleneck: int | None = None
    context: int = 0
    context_start: int = 0
    skips: bool = False
    time_scale: float = 1.0
    spans: bool = False
    dropout: float = 0.0
    classes: int | None = None
    out_channels: int | None = None
    remat: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        z: jax.Array,
        t: jax.Array,
        label: jax.Array | None = None,
        *,
        span: jax.Array | None = None,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        self._check(z, label, span)
        rows, columns = z.shape[1] // self.patch, z.shape[2] // self.patch
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}

        condition = TimeEmbedder(self.width, self.time_scale, name="time", **kinds)(t)
        if span is not None:
            condition += TimeEmbedder(self.width, self.time_scale, name="span", **kinds)(span)
        extra = None
        if self.classes is not None:
            embed = conditioning.ClassEmbedding(self.classes, self.width, name="class", **kinds)
            of_class = embed(label, len(z))
            condition += of_class
            if self.context:
                extra = self.param("context", _small, (self.context, self.width), self.param_dtype)
                extra = of_class[:, None] + extra.astype(of_class.dtype)[None]
        condition = nn.silu(condition)

        x = self._tokens(z, rows, columns)
        head = self.width // self.heads
        angles = rotary_angles(rows, columns, head) if self.jit else None
        kind = nn.remat(Block) if self.remat else Block
        earlier: list[jax.Array] = []
        for i in range(self.depth):
            if extra is not None and i == self.context_start:
                x = jnp.concatenate([extra, x], 1)
                if angles is not None:
                    angles = jnp.concatenate([jnp.zeros((self.context, head // 2)), angles])
            if self.skips and i >= self.depth - self.depth // 2:
                both = jnp.concatenate([x, earlier.pop()], -1)
                x = nn.Dense(self.width, kernel_init=_xavier, name=f"skip_{i}", **kinds)(both)
            # An explicit name: nn.remat would rename the parameters.
            block = kind(self.heads, self.jit, self.dropout, name=f"block_{i}", **kinds)
            x = block(x, condition, angles, keys)
            if self.skips and i < self.depth // 2:
                earlier.append(x)
        if extra is not None:
            x = x[:, self.context :]
        return self._pixels(x, condition, z, rows, columns)

    def _check(self, z: jax.Array, label: jax.Array | None, span: jax.Array | None) -> None:
        conditioning.check(label, self.classes)
        if z.shape[1] % self.patch or z.shape[2] % self.patch:
            raise ValueError(
                f"patches of {self.patch} need sides divisible by it, not {z.shape[1:3]}"
            )
        if self.width % self.heads or (self.jit and self.width // self.heads % 4):
            heads = "heads of a multiple of 4" if self.jit else "heads"
            raise ValueError(f"{self.width} features do not divide into {self.heads} {heads}")
        if self.positions not in ("sine", "learned"):
            raise ValueError(f'positions are "sine" or "learned", not {self.positions!r}')
        if self.context and self.skips and self.context_start:
            raise ValueError("long skips need context tokens from the first block on")
        if (span is not None) != self.spans:
            raise ValueError("a span is for a network with `spans`, and such a network needs one")

    def _tokens(self, z: jax.Array, rows: int, columns: int) -> jax.Array:
        """The patches' tokens [B, T, C], with their positions."""
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype, "kernel_init": _xavier}
        b, p, c = z.shape[0], self.patch, z.shape[3]
        x = z.reshape(b, rows, p, columns, p, c).transpose(0, 1, 3, 2, 4, 5)
        x = x.reshape(b, rows * columns, p * p * c)
        if self.bottleneck is not None:
            x = nn.Dense(self.bottleneck, use_bias=False, name="bottleneck", **kinds)(x)
        x = nn.Dense(self.width, name="embed", **kinds)(x)
        if self.positions == "learned":
            shape = (rows * columns, self.width)
            places = self.param("positions", _small, shape, self.param_dtype)
        else:
            places = sine_positions(rows, columns, self.width)
        return x + places.astype(x.dtype)[None]

    def _pixels(
        self, x: jax.Array, condition: jax.Array, z: jax.Array, rows: int, columns: int
    ) -> jax.Array:
        """The prediction [B, H, W, channels] of the last tokens."""
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        p, channels = self.patch, self.out_channels or z.shape[3]
        shift, scale = jnp.split(_modulation(condition, 2 * self.width, **kinds), 2, axis=-1)
        x = _norm("norm_out", self.jit, **kinds)(x) * (1 + scale) + shift
        zeros = nn.initializers.zeros
        x = nn.Dense(p * p * channels, kernel_init=zeros, name="out", **kinds)(x)
        x = x.reshape(len(z), rows, columns, p, p, channels).transpose(0, 1, 3, 2, 4, 5)
        return x.reshape(*z.shape[:3], channels).astype(z.dtype)
