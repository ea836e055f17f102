"""Where a token lies in an image: fixed sines beside it, or a rotation of queries and keys."""

import jax
import jax.numpy as jnp


def sine_positions(rows: int, columns: int, features: int) -> jax.Array:
    r"""Fixed positions of a grid of tokens.

    $$
    \bigl[\sin(c \, \omega), \cos(c \, \omega), \sin(r \, \omega), \cos(r \, \omega)\bigr], \qquad
    \omega_i = 10000^{-4 i / n}, \quad i = 0 \dots n/4 - 1
    $$

    for the token of row r and column c.

    Args:
      rows: R.
      columns: S.
      features: n, a multiple of 4.

    Returns:
      [R · S, n], row by row, float32.

    Raises:
      ValueError: where `features` is no multiple of 4.

    References:
      Vaswani et al., "Attention Is All You Need" (2017), arXiv:1706.03762, section 3.5.
      Peebles & Xie, "Scalable Diffusion Models with Transformers" (2022), arXiv:2212.09748, its
      code, where columns come first.
    """
    row, column = _grid_angles(rows, columns, features)
    return jnp.concatenate([jnp.sin(column), jnp.cos(column), jnp.sin(row), jnp.cos(row)], -1)


def rotary_angles(rows: int, columns: int, features: int) -> jax.Array:
    r"""Angles of rotary positions on a grid of tokens: half of the pairs turn by row.

    $$
    \bigl[r \, \omega, \; c \, \omega\bigr], \qquad
    \omega_i = 10000^{-4 i / n}, \quad i = 0 \dots n/4 - 1
    $$

    Args:
      rows: R.
      columns: S.
      features: n of a head, a multiple of 4.

    Returns:
      [R · S, n / 2], row by row, float32.

    Raises:
      ValueError: where `features` is no multiple of 4.

    References:
      Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding" (2021),
      arXiv:2104.09864, eq. 15.
    """
    return jnp.concatenate(_grid_angles(rows, columns, features), -1)


def _grid_angles(rows: int, columns: int, features: int) -> tuple[jax.Array, jax.Array]:
    """r ω and c ω, [R · S, n / 4] each."""
    if features % 4:
        raise ValueError(f"positions in two directions need multiples of 4 features: {features}")
    omega = 10000.0 ** (-jnp.arange(features // 4, dtype=jnp.float32) / (features / 4))
    row, column = jnp.divmod(jnp.arange(rows * columns), columns)
    return row[:, None] * omega[None], column[:, None] * omega[None]


def rotate(x: jax.Array, angles: jax.Array) -> jax.Array:
    r"""Turns pairs of features by the angles of their tokens (RoPE).

    $$
    \begin{pmatrix} x_i \\ x_{i + n/2} \end{pmatrix} \mapsto
    \begin{pmatrix} \cos\theta_i & -\sin\theta_i \\ \sin\theta_i & \cos\theta_i \end{pmatrix}
    \begin{pmatrix} x_i \\ x_{i + n/2} \end{pmatrix}
    $$

    The product of a query and a key then depends on the difference of their positions alone. The
    paper pairs neighbours, x_{2i} and x_{2i+1}: the same up to the order of the features.

    Args:
      x: queries or keys, [B, T, N, n].
      angles: θ, [T, n / 2].

    Returns:
      Like x.

    References:
      Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding" (2021),
      arXiv:2104.09864, eq. 13.
    """
    cos, sin = jnp.cos(angles)[None, :, None], jnp.sin(angles)[None, :, None]
    a, b = jnp.split(x.astype(cos.dtype), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1).astype(x.dtype)
