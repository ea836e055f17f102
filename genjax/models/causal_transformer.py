"""A transformer over the codes of images, each predicted from those before it, and its sampler."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.models import conditioning
from genjax.models.positions import rotary_angles
from genjax.models.transformer import Block

Cache = dict[str, Any]  # keys and values of each block

_small = nn.initializers.normal(0.02)


class CausalTransformer(nn.Module):
    """All conditionals p(code i | codes before i, class) of a sequence of codes.

    The codes are those of a grid of positions, row by row, and of the L codebooks of a position in
    turn. The blocks are those of `transformer.Transformer` with JiT's parts: rotary positions turn
    by row and column, and learned ones tell the codebooks apart. The class scales and shifts every
    block. The last layer is initialised at zero: an untrained network gives all codes the same
    probability.

    Args:
      codes: K of a codebook.
      rows: of the grid.
      columns: of the grid.
      levels: L, codes at each position.
      width: features C of a token.
      depth: number of blocks.
      heads: attention heads per block.
      dropout: probability.
      classes: number of classes to condition on; None for an unconditional network.
      remat: whether the gradient recomputes each block instead of storing its activations.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From codes [B, T], T = rows · columns · L: logits [B, T, K], float32 at least, of which number
      i depends on the codes before i alone. With a place i, and a "cache" as `empty_cache` makes it
      beside the parameters: from the code before i [B], which at i = 0 is ignored, the logits of
      code i [B, K]; the cache then holds the keys and values up to it. label: [B] in 0..classes,
      where `classes` and None mean "no class". keys: one PRNG key per example [B], for the dropout,
      or None for no dropout.

    Raises:
      ValueError: for labels where `classes` is None; where `heads` does not divide the width into
        multiples of 4.

    References:
      van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation Learning" (2017),
      arXiv:1711.00937, section 3.3, there with a PixelCNN.
      Esser, Rombach & Ommer, "Taming Transformers for High-Resolution Image Synthesis" (2020),
      arXiv:2012.09841, section 3.2.
      Peebles & Xie, "Scalable Diffusion Models with Transformers" (2022), arXiv:2212.09748, section
      3.2, on the class.
    """

    codes: int
    rows: int
    columns: int
    levels: int = 1
    width: int = 128
    depth: int = 4
    heads: int = 4
    dropout: float = 0.0
    classes: int | None = None
    remat: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @property
    def length(self) -> int:
        """T, codes of an image."""
        return self.rows * self.columns * self.levels

    @nn.compact
    def __call__(
        self,
        codes: jax.Array,
        label: jax.Array | None = None,
        *,
        place: jax.Array | int | None = None,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        conditioning.check(label, self.classes)
        if self.width % (4 * self.heads):
            raise ValueError(
                f"{self.width} features do not divide into {self.heads} heads of a multiple of 4"
            )
        kinds: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        if place is None:
            places = jnp.arange(self.length)
            before = jnp.pad(codes[:, :-1], ((0, 0), (1, 0)))
        else:
            places, before = jnp.full(1, place), codes[:, None]
        x = self._tokens(before, places)
        condition = jnp.zeros((len(x), self.width), x.dtype)
        if self.classes is not None:
            embed = conditioning.ClassEmbedding(self.classes, self.width, name="class", **kinds)
            condition = nn.silu(embed(label, len(x)))
        angles = rotary_angles(self.rows, self.columns, self.width // self.heads)
        angles = jnp.repeat(angles, self.levels, 0)[places]
        kind = nn.remat(Block) if self.remat else Block
        for i in range(self.depth):
            block = kind(self.heads, True, self.dropout, True, name=f"block_{i}", **kinds)
            x = block(x, condition, angles, keys)
        x = nn.RMSNorm(name="norm_out", **kinds)(x)
        zeros = nn.initializers.zeros
        logits = nn.Dense(self.codes, kernel_init=zeros, name="out", **kinds)(x)
        logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        return logits if place is None else logits[:, 0]

    def _tokens(self, before: jax.Array, places: jax.Array) -> jax.Array:
        """The code before each place, embedded beside the place; a token of its own at the start.

        Each of the levels has embeddings of its own.
        """
        numbers = before + self.codes * ((places - 1) % self.levels)[None]
        numbers = jnp.where(places[None] == 0, self.levels * self.codes, numbers)
        embed = nn.Embed(
            self.levels * self.codes + 1, self.width, name="embed", embedding_init=_small,
            dtype=self.dtype, param_dtype=self.param_dtype,
        )  # fmt: skip
        shape = (self.length, self.width)
        positions = self.param("positions", _small, shape, self.param_dtype)
        x = embed(numbers)
        return x + positions[places].astype(x.dtype)[None]

    def empty_cache(self, batch: int) -> Cache:
        """The cache before the first code.

        Args:
          batch: B.

        Returns:
          The collection "cache".
        """
        shape = (batch, self.length, self.heads, self.width // self.heads)
        zeros, start = jnp.zeros(shape, self.dtype or self.param_dtype), jnp.zeros((), jnp.int32)
        block = {"attention": {"keys": zeros, "values": zeros, "place": start}}
        return {f"block_{i}": block for i in range(self.depth)}

    def draw(
        self,
        params: Any,
        uniform: jax.Array,
        label: jax.Array | None = None,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
    ) -> jax.Array:
        """Codes drawn one after the other, with one token through the network for each.

        Args:
          params: of the network.
          uniform: numbers from 0 to below 1, [B, T], which decide.
          label: [B], or None for no class.
          temperature: as in `pick`.
          top_k: as in `pick`.

        Returns:
          Codes [B, T], int32.
        """

        def logits(before: jax.Array, place: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
            given = {**params, "cache": cache}
            found: Any = self.apply(given, before, label, place=place, mutable=["cache"])
            return found[0], found[1]["cache"]

        cache = self.empty_cache(len(uniform))
        return draw_codes(logits, cache, uniform, temperature=temperature, top_k=top_k)


def draw_codes(
    logits: Callable[[jax.Array, jax.Array, Cache], tuple[jax.Array, Cache]],
    cache: Cache,
    uniform: jax.Array,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
) -> jax.Array:
    """A sequence drawn code by code in one `lax.scan`.

    Args:
      logits: (the code before [B], place, cache) -> logits of the code [B, K], cache.
      cache: before the first code.
      uniform: numbers from 0 to below 1, [B, T].
      temperature: as in `pick`.
      top_k: as in `pick`.

    Returns:
      Codes [B, T], int32.
    """

    def step(carry: Any, given: Any) -> Any:
        (before, cache), (place, number) = carry, given
        found, cache = logits(before, place, cache)
        code = pick(found, number, temperature=temperature, top_k=top_k)
        return (code, cache), code

    start = jnp.zeros(len(uniform), jnp.int32), cache
    _, codes = jax.lax.scan(step, start, (jnp.arange(uniform.shape[1]), uniform.T))
    return codes.T


def pick(
    logits: jax.Array, uniform: jax.Array, *, temperature: float = 1.0, top_k: int | None = None
) -> jax.Array:
    r"""A code with the probability of its logit, the likelier ones at smaller numbers.

    $$
    p_k \propto \exp(l_k / \tau) \quad \text{for the } k \text{ greatest logits, 0 for the others}
    $$

    Args:
      logits: l, [B, K].
      uniform: numbers from 0 to below 1, [B]: they pick by the cumulated probabilities of the codes
        in the order of their logits.
      temperature: τ; below 1 likely codes are drawn more often, 0 draws the likeliest.
      top_k: how many codes may be drawn; None, and numbers from K on, for all.

    Returns:
      Codes [B], int32.

    References:
      Fan, Lewis & Dauphin, "Hierarchical Neural Story Generation" (2018), arXiv:1805.04833, section
      5.2.
    """
    most = min(top_k or logits.shape[-1], logits.shape[-1])
    values, order = jax.lax.top_k(logits, 1 if temperature == 0 else most)
    if temperature == 0:
        return order[:, 0]
    # The greatest is taken away before it is divided, so that no temperature overflows.
    p = jax.nn.softmax((values - values[:, :1]) / temperature)
    below = jnp.cumsum(p, -1)
    # In units of the last, as rounding may end below 1.
    place = (below <= uniform[:, None] * below[:, -1:]).sum(-1)
    return jnp.take_along_axis(order, place[:, None], 1)[:, 0]
