"""PixelCNN: convolutions that see the pixels before each pixel alone, and how images are drawn."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from genjax.models import conditioning
from genjax.models.layers import Conv, Dropout, Projection

Cache = dict[str, Any]  # of each convolution the row above, [B, 1, W, C]


class CausalConv(nn.Module):
    """A convolution that sees the row of a pixel up to some column, and the row above it.

    With a "cache" beside the parameters x is one row, and the cache has the row above, of which x
    takes the place: an image goes through row by row.

    Args:
      features: output channels.
      left: whether it sees the pixel itself and that to its left (2x2 in all) rather than one to
        each side (2x3).
      gain: what the initial weights are multiplied by.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From x [B, H, W, C]: [B, H, W, features].
    """

    features: int
    left: bool
    gain: float = 1.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        # Initialisation is of whole images, though there every collection can be written.
        start = self.is_mutable_collection("cache") and not self.is_initializing()
        rows = (1, 0)
        if start or self.has_variable("cache", "above"):
            above, rows = self.variable("cache", "above", jnp.zeros_like, x), (0, 0)
            both = jnp.concatenate([above.value, x], 1)
            if self.is_mutable_collection("cache"):
                above.value = x
            x = both
        scaled = nn.initializers.variance_scaling(self.gain**2, "fan_in", "truncated_normal")
        return Conv(
            self.features,
            (2, 2) if self.left else (2, 3),
            padding=(rows, (1, 0) if self.left else (1, 1)),
            kernel_init=scaled,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )(x)


class GatedLayer(nn.Module):
    r"""A residual layer of two causal convolutions and a gate.

    $$
    x + a \odot \mathrm{sigmoid}(b), \qquad (a, b) = K_2\, f(K_1 f(x) + P f(s)) + E_y
    $$

    with $f(x) = \mathrm{elu}([x, -x])$, and dropout behind the second f.

    Args:
      left: as in `CausalConv`.
      dropout: probability.
      classes: number of classes K to condition on; None for an unconditional layer.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From x [B, H, W, C], further features s [B, H, W, any] of the same places, which may be none,
      labels [B] in 0..K or None, and keys [B] for the dropout or None for none: [B, H, W, C].

    References:
      Salimans et al., "PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture
      Likelihood and Other Modifications" (2017), arXiv:1701.05517, section 2 and the released code.
      van den Oord et al., "Conditional Image Generation with PixelCNN Decoders" (2016),
      arXiv:1606.05328, eq. 2 and 3.
    """

    left: bool
    dropout: float = 0.0
    classes: int | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        others: Sequence[jax.Array],
        label: jax.Array | None,
        keys: jax.Array | None,
    ) -> jax.Array:
        kinds: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        n = x.shape[-1]
        h = CausalConv(n, self.left, **kinds)(_both_signs(x))
        if others:
            h += Projection(n, **kinds)(_both_signs(jnp.concatenate(others, -1)))
        h = Dropout(self.dropout)(_both_signs(h), keys)
        h = CausalConv(2 * n, self.left, gain=0.1, **kinds)(h)
        if self.classes is not None:
            embed = conditioning.ClassEmbedding(self.classes, 2 * n, **kinds)
            h += embed(label, len(x))[:, None, None]
        value, gate = jnp.split(h, 2, -1)
        return x + value * nn.sigmoid(gate)


class PixelCNN(nn.Module):
    """All conditionals of an image's pixels in one pass, each given the rows above and its left.

    A vertical stack sees the rows above each pixel, to both sides; a horizontal stack its own row
    to the left of it, and the vertical stack layer by layer, so that no pixel before is hidden. The
    order is that of rows, then columns; the channels of a pixel are predicted together. With each
    layer both reach one row further up in either convolution. The layers of the second half take
    the outputs of the first half too, the last of them first.

    PixelCNN++ at one resolution, that of the images, where the paper has three, and without its
    weight normalisation and data-dependent initialisation.

    Args:
      outputs: numbers per pixel.
      channels: features C of either stack.
      depth: gated layers of either stack.
      dropout: probability.
      classes: number of classes K to condition on; None for an unconditional network.
      sides: (H, W) of the images, where each place has learned features of its own, which the
        vertical stack starts with; None for a network that knows places by the borders alone.
      dtype: of the computation; None for what inputs and parameters have.
      param_dtype: of the parameters.

    Returns:
      From images [B, H, W, any], best in −1..1, and labels [B] in 0..K: [B, H, W, outputs], float32
      at least, of which those at a pixel depend on the pixels before it alone. The label K, and
      None for labels, mean "no class". keys: one PRNG key per example [B], for the dropout, or None
      for no dropout.

    Raises:
      ValueError: for labels where `classes` is None.

    References:
      van den Oord, Kalchbrenner & Kavukcuoglu, "Pixel Recurrent Neural Networks" (2016),
      arXiv:1601.06759.
      van den Oord et al., "Conditional Image Generation with PixelCNN Decoders" (2016),
      arXiv:1606.05328, section 2.2.
      Salimans et al., "PixelCNN++" (2017), arXiv:1701.05517, section 2.
    """

    outputs: int
    channels: int = 32
    depth: int = 4
    dropout: float = 0.0
    classes: int | None = None
    sides: tuple[int, int] | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        """The layers of both stacks."""
        kinds: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        how: dict[str, Any] = {"dropout": self.dropout, "classes": self.classes, **kinds}
        self.vertical_in = CausalConv(self.channels, left=False, **kinds)
        self.horizontal_in = CausalConv(self.channels, left=True, **kinds)
        self.vertical = [GatedLayer(left=False, **how) for _ in range(self.depth)]
        self.horizontal = [GatedLayer(left=True, **how) for _ in range(self.depth)]
        self.out = Projection(self.outputs, **kinds)
        if self.sides is not None:
            shape = (*self.sides, self.channels)
            self.places = self.param("places", nn.initializers.zeros, shape, self.param_dtype)

    def __call__(
        self, x: jax.Array, label: jax.Array | None = None, *, keys: jax.Array | None = None
    ) -> jax.Array:
        """As the class says."""
        conditioning.check(label, self.classes)
        x = _marked(x)
        above = self.see_above(jnp.pad(x[:, :-1], ((0, 0), (1, 0), (0, 0), (0, 0))), label, keys)
        return self.see_left(x, above, label, keys)

    def see_above(
        self,
        x: jax.Array,
        label: jax.Array | None = None,
        keys: jax.Array | None = None,
        first: int | jax.Array = 0,
    ) -> list[jax.Array]:
        """The vertical stack.

        Args:
          x: at each row the marked row above it, [B, H, W, any].
          label: [B], or None for no class.
          keys: for the dropout, or None for none.
          first: number of the first row.

        Returns:
          What each of its layers ends in, [B, H, W, C].
        """
        h = self.vertical_in(x)
        if self.sides is not None:
            places = jax.lax.dynamic_slice_in_dim(self.places, first, x.shape[1])
            h += places[None].astype(h.dtype)
        return self._stack(self.vertical, h, None, label, keys)

    def see_left(
        self,
        x: jax.Array,
        above: Sequence[jax.Array],
        label: jax.Array | None = None,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """The horizontal stack, and the numbers per pixel.

        Args:
          x: marked images, [B, H, W, any].
          above: what `see_above` returns of them.
          label: [B], or None for no class.
          keys: for the dropout, or None for none.

        Returns:
          [B, H, W, outputs].
        """
        x = jnp.pad(x[:, :, :-1], ((0, 0), (0, 0), (1, 0), (0, 0)))
        *_, h = self._stack(self.horizontal, self.horizontal_in(x), above, label, keys)
        found = self.out(nn.elu(h))
        return found.astype(jnp.promote_types(found.dtype, jnp.float32))

    def _stack(
        self,
        layers: Sequence[GatedLayer],
        h: jax.Array,
        above: Sequence[jax.Array] | None,
        label: jax.Array | None,
        keys: jax.Array | None,
    ) -> list[jax.Array]:
        ends = [h]
        for i, layer in enumerate(layers):
            others = [] if above is None else [above[i]]
            if 2 * i >= self.depth:
                others.append(ends[self.depth - 1 - i])
            ends.append(layer(ends[-1], others, label, keys))
        return ends[1:]

    def draw(
        self,
        params: Any,
        pick: Callable[[jax.Array, jax.Array], jax.Array],
        uniform: jax.Array,
        label: jax.Array | None = None,
    ) -> jax.Array:
        """Images drawn pixel by pixel.

        Rows above stay in a cache: the vertical stack goes over the image once, and each pixel
        costs one row of the horizontal stack.

        Args:
          params: of the network.
          pick: the numbers of a pixel [B, outputs] and numbers in 0..1 [B, n] that decide -> the
            pixel [B, channels of the images].
          uniform: numbers in 0..1, [B, H, W, n].
          label: [B], or None for no class.

        Returns:
          [B, H, W, channels of the images].
        """
        batch, width = len(uniform), uniform.shape[2]
        numbers = jax.ShapeDtypeStruct((batch, self.outputs), jnp.float32)
        kind = jax.eval_shape(pick, numbers, uniform[:, 0, 0])
        blank = jnp.zeros((batch, 1, width, kind.shape[-1]), kind.dtype)

        def run(method: str, cache: Cache, *given: Any, **how: Any) -> tuple[Any, Cache]:
            state, how = {**params, "cache": cache}, {"method": method, **how}
            found: Any = self.apply(state, *given, label, mutable=["cache"], **how)
            return found[0], found[1]["cache"]

        def row(carry: Any, item: tuple[jax.Array, jax.Array]) -> Any:
            (before, (over, beside)), (number, numbers) = carry, item
            above, over = run("see_above", over, before, first=number)

            def pixel(i: jax.Array, x: jax.Array) -> jax.Array:
                found, _ = run("see_left", beside, _marked(x), above)
                value = pick(found[:, 0, i], numbers[:, i])
                return jax.lax.dynamic_update_index_in_dim(x, value[:, None], i, 2)

            x = jax.lax.fori_loop(0, width, pixel, blank)
            _, beside = run("see_left", beside, _marked(x), above)
            return (_marked(x), (over, beside)), x[:, 0]

        before = jnp.zeros_like(_marked(blank))  # as outside of the image
        above, over = jax.eval_shape(partial(run, "see_above", {}), before)
        _, beside = jax.eval_shape(partial(run, "see_left", {}), before, above)
        empty = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), (over, beside))
        items = jnp.arange(uniform.shape[1]), uniform.swapaxes(0, 1)
        _, rows = jax.lax.scan(row, (before, empty), items)
        return rows.swapaxes(0, 1)


def _marked(x: jax.Array) -> jax.Array:
    """A channel of ones, which tells pixels from the zeros outside."""
    return jnp.concatenate([x, jnp.ones_like(x[..., :1])], -1)


def _both_signs(x: jax.Array) -> jax.Array:
    return nn.elu(jnp.concatenate([x, -x], -1))
