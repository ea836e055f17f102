"""Discrete codes: vector quantisation with its codebook's moving average, and finite scalars."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys, numerics, over_batch


class Quantized(NamedTuple):
    """The result of `vector_quantize`.

    Attributes:
      codes: like z, with the straight-through gradient.
      indices: of the chosen vectors, [B, ...].
      codebook_loss: ‖sg(z) − e‖², [B], summed over an image's positions.
      commitment: ‖z − sg(e)‖², [B], summed over an image's positions.
    """

    codes: Array
    indices: Array
    codebook_loss: Array
    commitment: Array

    def loss(self, beta: float = 0.25) -> Array:
        r"""The sum of the two losses; with an averaged codebook take β·commitment alone.

        $$
        \mathcal{L} = \mathrm{codebook\_loss} + \beta \, \mathrm{commitment}
        $$

        Args:
          beta: β, weight of the commitment.

        Returns:
          [B], squared units of z.

        References:
          van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation Learning" (2017),
          arXiv:1711.00937, eq. 3.
        """
        return self.codebook_loss + beta * self.commitment


class Codebook(NamedTuple):
    """A codebook and the moving averages that it is made of.

    Attributes:
      vectors: [K, D].
      counts: average number of codes that chose each vector, [K].
      sums: average sum of the codes that chose each vector, [K, D].
    """

    vectors: Array
    counts: Array
    sums: Array


def vector_quantize(z: Array, vectors: Array) -> Quantized:
    r"""The nearest of K vectors for each of z's, with the straight-through gradient.

    The decoder's gradient passes from the codes straight to z.

    $$
    \mathrm{codes} = z + \mathrm{sg}(e - z), \qquad \|\mathrm{sg}(z) - e\|^2, \qquad
      \|z - \mathrm{sg}(e)\|^2, \qquad e = \arg\min_{e_k} \|z - e_k\|
    $$

    Args:
      z: the encoder's output, [B, ..., D].
      vectors: the codebook, [K, D].

    Returns:
      Codes like z, indices [B, ...], and the two losses, each [B].

    Raises:
      ValueError: where z is of integers, or the shapes do not fit.

    References:
      van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation Learning" (2017),
      arXiv:1711.00937, eq. 2 and 3.
    """
    numerics.check_floats(z=z)
    if vectors.ndim != 2 or z.ndim < 2 or z.shape[-1] != vectors.shape[-1]:
        raise ValueError(
            f"give z [B, ..., D] and vectors [K, D]: z has {z.shape}, vectors have {vectors.shape}"
        )
    sg = jax.lax.stop_gradient
    wide, book = numerics.widen(z), numerics.widen(vectors)
    # |z|² is the same for all K. TPUs and GPUs would take the product in fewer bits by default.
    product = jnp.matmul(sg(wide), sg(book).T, precision=jax.lax.Precision.HIGHEST)
    squares = jnp.sum(sg(book) ** 2, axis=-1).reshape((1,) * (z.ndim - 1) + (-1,))
    indices = jnp.argmin(squares - 2 * product, axis=-1)
    nearest = book[indices]
    return Quantized(
        (wide + sg(nearest - wide)).astype(z.dtype),
        indices,
        numerics.sum_per_example((sg(wide) - nearest) ** 2),
        numerics.sum_per_example((wide - sg(nearest)) ** 2),
    )


class ResidualQuantized(NamedTuple):
    """The result of `residual_quantize`.

    Attributes:
      codes: like z, the sum of the chosen vectors, with the straight-through gradient.
      indices: of the chosen vectors, [L, B, ...].
      residuals: what each codebook was given, [L, B, ..., D], for `update_codebook`.
      codebook_loss: Σ ‖sg(residual) − e‖² over the codebooks, [B].
      commitment: Σ ‖z − sg(codes so far)‖² over the codebooks, [B].
    """

    codes: Array
    indices: Array
    residuals: Array
    codebook_loss: Array
    commitment: Array


def residual_quantize(z: Array, vectors: Array) -> ResidualQuantized:
    r"""Each of L codebooks quantises what those before it left over.

    L codebooks of K vectors tell K to the power of L codes apart.

    $$
    r_1 = z, \qquad e_l = \arg\min_{e_k^{(l)}} \| r_l - e_k \|, \qquad r_{l+1} = r_l - e_l, \qquad
    \mathrm{codes} = z + \mathrm{sg}\Bigl( \sum_l e_l - z \Bigr)
    $$

    Args:
      z: the encoder's output, [B, ..., D].
      vectors: the codebooks, [L, K, D].

    Returns:
      Codes like z, the indices and residuals of each codebook, and the two losses, each [B].

    Raises:
      ValueError: where z is of integers, or the shapes do not fit.

    References:
      Lee et al., "Autoregressive Image Generation using Residual Quantization" (2022),
      arXiv:2203.01941, eq. 3 to 6.
      Zeghidour et al., "SoundStream: An End-to-End Neural Audio Codec" (2021), arXiv:2107.03312.
    """
    if vectors.ndim != 3:
        raise ValueError(f"give codebooks [L, K, D], got {vectors.shape}")
    books, residual = list(jnp.asarray(vectors)), z
    found, given = [], []
    for book in books:
        quantized = vector_quantize(residual, book)
        found.append(quantized)
        given.append(jax.lax.stop_gradient(residual))
        chosen = jax.lax.stop_gradient(book[quantized.indices])
        # z's gradient reaches every level's commitment through the residual.
        residual = (numerics.widen(residual) - numerics.widen(chosen)).astype(z.dtype)
    total = sum(
        jax.lax.stop_gradient(numerics.widen(book[each.indices]))
        for book, each in zip(books, found, strict=True)
    )
    wide = numerics.widen(z)
    return ResidualQuantized(
        (wide + jax.lax.stop_gradient(total - wide)).astype(z.dtype),
        jnp.stack([each.indices for each in found]),
        jnp.stack(given),
        jnp.sum(jnp.stack([each.codebook_loss for each in found]), axis=0),
        jnp.sum(jnp.stack([each.commitment for each in found]), axis=0),
    )


def start_codebook(vectors: Array) -> Codebook:
    """A codebook that counts one code at each of the vectors.

    Args:
      vectors: [K, D].

    Returns:
      The codebook before its first update.
    """
    wide = numerics.widen(vectors)
    return Codebook(vectors, jnp.ones(vectors.shape[0], wide.dtype), wide)


def update_codebook(
    codebook: Codebook,
    z: Array,
    indices: Array,
    *,
    decay: float = 0.99,
    axis_name: str | None = over_batch.DATA_AXIS,
) -> Codebook:
    r"""The codebook after one step of its moving averages: pure, and without gradient.

    A vector that nothing chooses stays where it is.

    $$
    N_k \leftarrow \gamma N_k + (1 - \gamma) \, n_k, \qquad
    m_k \leftarrow \gamma m_k + (1 - \gamma) \sum_{z \to k} z, \qquad e_k = m_k / N_k
    $$

    Args:
      codebook: before the step.
      z: the encoder's output, [B, ..., D].
      indices: from `vector_quantize`, [B, ...].
      decay: γ.
      axis_name: the axis that splits the batch over devices, wherever one of that name is mapped.

    Returns:
      The codebook after the step, counted over the global batch.

    Raises:
      ValueError: where the shapes do not fit.

    References:
      van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation Learning" (2017),
      arXiv:1711.00937, appendix A.1.
    """
    if z.shape[:-1] != indices.shape or z.shape[-1] != codebook.vectors.shape[-1]:
        raise ValueError(
            f"give z [B, ..., D], indices [B, ...] and vectors [K, D]: z has {z.shape}, indices "
            f"have {indices.shape}, vectors have {codebook.vectors.shape}"
        )
    z, codebook = jax.lax.stop_gradient((numerics.widen(z), codebook))
    size, width = codebook.vectors.shape
    # A product with one-hot rows: scattered sums have no fixed order on a GPU.
    chosen = jax.nn.one_hot(indices.reshape(-1), size, dtype=z.dtype)
    counts = chosen.sum(0)
    sums = jnp.matmul(chosen.T, z.reshape(-1, width), precision=jax.lax.Precision.HIGHEST)
    counts, sums = over_batch.total((counts, sums), axis_name)
    counts = decay * codebook.counts + (1 - decay) * counts
    sums = decay * codebook.sums + (1 - decay) * sums
    # A count that decayed to nothing would give 0/0.
    alive = (counts > 1e-20)[:, None]
    moved = sums / jnp.where(alive, counts[:, None], 1)
    vectors = jnp.where(alive, moved, numerics.widen(codebook.vectors)).astype(
        codebook.vectors.dtype
    )
    return Codebook(vectors, counts, sums)


def restart_codes(
    codebook: Codebook,
    z: Array,
    key: Array,
    *,
    share: float = 0.03,
    axis_name: str | None = over_batch.DATA_AXIS,
) -> Codebook:
    r"""Vectors that hardly anything chooses any more move to codes of the batch, drawn at random.

    $$
    N_k < s \, \bar N, \quad \bar N = \frac{1}{K} \sum_k N_k \quad \Longrightarrow \quad
    e_k = z_i, \quad N_k = \bar N, \quad m_k = \bar N z_i
    $$

    with i drawn without replacement, as far as the batch has codes enough.

    Args:
      codebook: after `update_codebook`.
      z: the encoder's output, [B, ..., D].
      key: one PRNG key per example, [B].
      share: s, of even use; 0 for no restarts.
      axis_name: the axis that splits the batch over devices, wherever one of that name is mapped.

    Returns:
      The codebook, the same on every device.

    Raises:
      TypeError: where there is one key alone, by which devices would draw the same numbers.
      ValueError: where the shapes do not fit.

    References:
      Dhariwal et al., "Jukebox: A Generative Model for Music" (2020), arXiv:2005.00341, section
      3.1, where the least use is absolute.
    """
    if keys.is_single(key):
        raise TypeError("give one PRNG key per example")
    keys.check_batch(key, z.shape[0])
    if z.shape[-1] != codebook.vectors.shape[-1]:
        raise ValueError(
            f"give z [B, ..., D] and vectors [K, D]: z has {z.shape}, vectors have "
            f"{codebook.vectors.shape}"
        )
    z, codebook = jax.lax.stop_gradient((numerics.widen(z), codebook))
    size, width = codebook.vectors.shape
    lots = keys.uniform(key, z.shape[:-1])
    lots, z = over_batch.gather(lots, axis_name).ravel(), over_batch.gather(z, axis_name)
    z = z.reshape(-1, width)
    _, order = jax.lax.top_k(lots, min(size, len(z)))
    drawn = z[order[jnp.arange(size) % len(order)]]
    even = codebook.counts.mean()
    dead = codebook.counts < share * even
    row = dead[:, None]
    return Codebook(
        jnp.where(row, drawn, codebook.vectors).astype(codebook.vectors.dtype),
        jnp.where(dead, even, codebook.counts),
        jnp.where(row, even * drawn, codebook.sums),
    )


def perplexity(indices: Array, size: int, *, axis_name: str | None = over_batch.DATA_AXIS) -> Array:
    r"""How many of the codes the batch uses, as the exponential of their entropy.

    It is `size` where all codes are used alike, and 1 where a codebook has collapsed onto one.

    $$
    \exp\left( -\sum_k p_k \log p_k \right)
    $$

    Args:
      indices: from `vector_quantize`, [B, ...].
      size: K, the number of codes.
      axis_name: the axis that splits the batch over devices, wherever one of that name is mapped.

    Returns:
      A scalar in 1…K, in codes, of the global batch.

    Raises:
      TypeError: where `size` is traced.
    """
    numerics.check_static(size=size)
    used = jnp.bincount(indices.reshape(-1), length=size) / indices.size
    p = over_batch.mean(used, axis_name)
    return jnp.exp(jnp.sum(jax.scipy.special.entr(p)))


def finite_scalar_quantize(z: Array, levels: Sequence[int]) -> Array:
    r"""Each channel bounded by tanh and rounded to one of its L levels.

    The gradient is that of the bounded value, straight through the rounding. z = 0 is a code's
    centre for odd and even L: the shift takes the atanh that the paper's tan is meant to be. For
    L = 2 that would saturate tanh, so there is no L = 2.

    $$
    \frac{1}{\lfloor L/2 \rfloor} \, \mathrm{round}\big( h \tanh(z + s) - o \big),
    \qquad h = 1.001 \, \frac{L - 1}{2}, \qquad o = \frac{1}{2} [L \text{ even}],
    \qquad s = \mathrm{artanh}(o / h)
    $$

    Args:
      z: [B, ..., d].
      levels: the number of levels L ≥ 3 of each of the d channels.

    Returns:
      Codes like z, in −1…1: k/⌊L/2⌋ with k = −⌊L/2⌋ … ⌈L/2⌉ − 1.

    Raises:
      TypeError: where a level is traced.
      ValueError: where z is of integers, or there is not one level L ≥ 3 for each channel.

    References:
      Mentzer et al., "Finite Scalar Quantization: VQ-VAE Made Simple" (2023), arXiv:2309.15505,
      appendix A.1.
    """
    numerics.check_floats(z=z)
    _same_width(z, levels)
    # A thousandth more than the outermost level, so that tanh reaches it.
    halves = [0.5 * (L - 1) * 1.001 for L in levels]
    offsets = [0.5 * (L % 2 == 0) for L in levels]
    shifts = [math.atanh(o / h) for o, h in zip(offsets, halves, strict=True)]
    wide = numerics.widen(z)
    half, offset, shift = (_last_axis(values, wide) for values in (halves, offsets, shifts))
    bounded = jnp.tanh(wide + shift) * half - offset
    rounded = bounded + jax.lax.stop_gradient(jnp.round(bounded) - bounded)
    return (rounded / _last_axis([L // 2 for L in levels], wide)).astype(z.dtype)


def finite_scalar_indices(codes: Array, levels: Sequence[int]) -> Array:
    r"""The number of each code of `finite_scalar_quantize`.

    The first channel is the units.

    $$
    \sum_i d_i \prod_{j < i} L_j, \qquad d_i = (c_i + 1) \, \lfloor L_i / 2 \rfloor
    $$

    Args:
      codes: [B, ..., d].
      levels: the number of levels of each of the d channels.

    Returns:
      [B, ...], integers in 0…ΠL − 1.

    Raises:
      TypeError: where a level is traced.
      ValueError: where there is not one level L ≥ 3 for each channel, or where ΠL passes 2³¹.

    References:
      Mentzer et al., "Finite Scalar Quantization: VQ-VAE Made Simple" (2023), arXiv:2309.15505,
      section 3.
    """
    _same_width(codes, levels)
    if math.prod(levels) > 2**31:
        raise ValueError(f"give levels whose product is at most 2³¹: {tuple(levels)}")
    half = _last_axis([L // 2 for L in levels], numerics.widen(codes))
    digits = jnp.round(numerics.widen(codes) * half + half).astype(jnp.int32)
    places = [math.prod(levels[:i]) for i in range(len(levels))]
    return jnp.sum(digits * _last_axis(places, digits), axis=-1)


def finite_scalar_codes(indices: Array, levels: Sequence[int]) -> Array:
    """The code of each number: the inverse of `finite_scalar_indices`.

    Args:
      indices: integers in 0…ΠL − 1, [B, ...].
      levels: the number of levels of each of the d channels.

    Returns:
      [B, ..., d], float32 codes in −1…1.

    References:
      Mentzer et al., "Finite Scalar Quantization: VQ-VAE Made Simple" (2023), arXiv:2309.15505,
      section 3.
    """
    places = [math.prod(levels[:i]) for i in range(len(levels))]
    digits = [indices // place % L - L // 2 for place, L in zip(places, levels, strict=True)]
    return jnp.stack([d / (L // 2) for d, L in zip(digits, levels, strict=True)], axis=-1)


def _same_width(z: Array, levels: Sequence[int]) -> None:
    numerics.check_static(**{f"levels[{i}]": level for i, level in enumerate(levels)})
    if z.shape[-1] != len(levels) or min(levels) < 3:
        raise ValueError(
            f"give one level L ≥ 3 for each channel of z: z has {z.shape}, levels are "
            f"{tuple(levels)}"
        )


def _last_axis(values: Sequence[float], like: Array) -> Array:
    return jnp.asarray(values, like.dtype).reshape((1,) * (like.ndim - 1) + (-1,))
