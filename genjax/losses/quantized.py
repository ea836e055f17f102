"""Discrete codes: vector quantisation with its codebook's moving average, and finite scalars."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Quantized(NamedTuple):
    """Codes like z with the straight-through gradient, their indices, and the two losses [B]."""

    codes: Array
    indices: Array
    codebook_loss: Array
    commitment: Array

    def loss(self, beta: float = 0.25) -> Array:
        """codebook_loss + β·commitment, [B]; with an averaged codebook β·commitment alone."""
        return self.codebook_loss + beta * self.commitment


class Codebook(NamedTuple):
    """vectors [K, D], and the moving averages they are made of: counts [K], sums [K, D]."""

    vectors: Array
    counts: Array
    sums: Array


def vector_quantize(z: Array, vectors: Array) -> Quantized:
    """The nearest of K vectors for each of z's: codes e, ‖sg(z) − e‖² and ‖z − sg(e)‖².

    z: [B, ..., D]; vectors: [K, D]. codes: z's shape, z + sg(e − z), so that the decoder's gradient
    passes straight to the encoder; indices [B, ...]; both losses [B], summed over an image's
    positions and D. van den Oord et al., "Neural Discrete Representation Learning" (2017),
    equations 2 and 3.
    """
    if vectors.ndim != 2 or z.ndim < 2 or z.shape[-1] != vectors.shape[-1]:
        raise ValueError(
            f"give z [B, ..., D] and vectors [K, D]: z has {z.shape}, vectors have {vectors.shape}"
        )
    sg = jax.lax.stop_gradient
    wide, book = _widen(z), _widen(vectors)
    # |z|² is the same for all K. TPUs and GPUs would take the product in fewer bits by default.
    product = jnp.matmul(sg(wide), sg(book).T, precision=jax.lax.Precision.HIGHEST)
    squares = jnp.sum(sg(book) ** 2, axis=-1).reshape((1,) * (z.ndim - 1) + (-1,))
    indices = jnp.argmin(squares - 2 * product, axis=-1)
    nearest = book[indices]
    return Quantized(
        (wide + sg(nearest - wide)).astype(z.dtype),
        indices,
        _per_example((sg(wide) - nearest) ** 2),
        _per_example((wide - sg(nearest)) ** 2),
    )


def start_codebook(vectors: Array) -> Codebook:
    """A codebook that counts one code at each of the vectors [K, D]."""
    wide = _widen(vectors)
    return Codebook(vectors, jnp.ones(vectors.shape[0], wide.dtype), wide)


def update_codebook(
    codebook: Codebook,
    z: Array,
    indices: Array,
    *,
    decay: float = 0.99,
    axis_name: str | None = None,
) -> Codebook:
    """N ← γN + (1−γ)n, m ← γm + (1−γ)Σz, e = m/N over the z [B, ..., D] that chose each vector.

    indices: [B, ...] from vector_quantize; γ = decay. Pure, and without gradient; under pmap, name
    its axis to count all devices. A vector that nothing chooses stays where it is. van den Oord et
    al. (2017), appendix A.1.
    """
    if z.shape[:-1] != indices.shape or z.shape[-1] != codebook.vectors.shape[-1]:
        raise ValueError(
            f"give z [B, ..., D], indices [B, ...] and vectors [K, D]: z has {z.shape}, indices "
            f"have {indices.shape}, vectors have {codebook.vectors.shape}"
        )
    z, codebook = jax.lax.stop_gradient((_widen(z), codebook))
    size, width = codebook.vectors.shape
    # A product with one-hot rows: scattered sums have no fixed order on a GPU.
    chosen = jax.nn.one_hot(indices.reshape(-1), size, dtype=z.dtype)
    counts = chosen.sum(0)
    sums = jnp.matmul(chosen.T, z.reshape(-1, width), precision=jax.lax.Precision.HIGHEST)
    if axis_name is not None:
        counts, sums = jax.lax.psum((counts, sums), axis_name)
    counts = decay * codebook.counts + (1 - decay) * counts
    sums = decay * codebook.sums + (1 - decay) * sums
    # A count that decayed to nothing would give 0/0.
    alive = (counts > 1e-20)[:, None]
    moved = sums / jnp.where(alive, counts[:, None], 1)
    vectors = jnp.where(alive, moved, _widen(codebook.vectors)).astype(codebook.vectors.dtype)
    return Codebook(vectors, counts, sums)


def perplexity(indices: Array, size: int) -> Array:
    """exp(−Σ p log p) of the batch's use of `size` codes: 1 … size, one number for all indices.

    Its unit is codes: size if all are used alike, 1 if a codebook has collapsed onto one.
    """
    p = jnp.bincount(indices.reshape(-1), length=size) / indices.size
    return jnp.exp(jnp.sum(jax.scipy.special.entr(p)))


def finite_scalar_quantize(z: Array, levels: Sequence[int]) -> Array:
    """Each channel bounded by tanh and rounded to one of its L levels: codes like z, in [−1, 1].

    z: [B, ..., len(levels)], every L ≥ 3. Codes are k/⌊L/2⌋ with k = −⌊L/2⌋ … ⌈L/2⌉−1; the gradient
    is that of the bounded value, straight through the rounding. Mentzer et al., "Finite Scalar
    Quantization: VQ-VAE Made Simple" (2023), appendix A.1, with the atanh that its tan is meant to
    be: z = 0 is a code's centre for odd and even L (for L = 2 that saturates tanh, so no L = 2).
    """
    _same_width(z, levels)
    # A thousandth more than the outermost level, so that tanh reaches it.
    halves = [0.5 * (L - 1) * 1.001 for L in levels]
    offsets = [0.5 * (L % 2 == 0) for L in levels]
    shifts = [math.atanh(o / h) for o, h in zip(offsets, halves, strict=True)]
    wide = _widen(z)
    half, offset, shift = (_last_axis(values, wide) for values in (halves, offsets, shifts))
    bounded = jnp.tanh(wide + shift) * half - offset
    rounded = bounded + jax.lax.stop_gradient(jnp.round(bounded) - bounded)
    return (rounded / _last_axis([L // 2 for L in levels], wide)).astype(z.dtype)


def finite_scalar_indices(codes: Array, levels: Sequence[int]) -> Array:
    """Codes [B, ..., len(levels)] to integers 0 … ΠL−1, of which the first channel is the units.

    Mentzer et al. (2023), section 3.
    """
    _same_width(codes, levels)
    if math.prod(levels) > 2**31:
        raise ValueError(f"give levels whose product is at most 2³¹: {tuple(levels)}")
    half = _last_axis([L // 2 for L in levels], _widen(codes))
    digits = jnp.round(_widen(codes) * half + half).astype(jnp.int32)
    places = [math.prod(levels[:i]) for i in range(len(levels))]
    return jnp.sum(digits * _last_axis(places, digits), axis=-1)


def finite_scalar_codes(indices: Array, levels: Sequence[int]) -> Array:
    """The inverse of finite_scalar_indices: integers [B, ...] to float32 codes [B, ..., d]."""
    places = [math.prod(levels[:i]) for i in range(len(levels))]
    digits = [indices // place % L - L // 2 for place, L in zip(places, levels, strict=True)]
    return jnp.stack([d / (L // 2) for d, L in zip(digits, levels, strict=True)], axis=-1)


def _same_width(z: Array, levels: Sequence[int]) -> None:
    if z.shape[-1] != len(levels) or min(levels) < 3:
        raise ValueError(
            f"give one level L ≥ 3 for each channel of z: z has {z.shape}, levels are "
            f"{tuple(levels)}"
        )


def _last_axis(values: Sequence[float], like: Array) -> Array:
    return jnp.asarray(values, like.dtype).reshape((1,) * (like.ndim - 1) + (-1,))


def _per_example(elements: Array) -> Array:
    return jnp.sum(elements, axis=tuple(range(1, elements.ndim)))


def _widen(a: Array) -> Array:
    """At least float32: sums in bfloat16 would lose the answer."""
    return a.astype(jnp.promote_types(a.dtype, jnp.float32))
