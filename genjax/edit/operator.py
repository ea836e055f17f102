"""What was observed of an image: y = A x, with what solvers of inverse problems ask of A."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from genjax.numerics import check_floats, expand


@dataclass(frozen=True)
class Operator:
    r"""An operator A of images, in an observation with normal noise.

    $$
    y = A x + n, \qquad n \sim \mathcal{N}(0, \sigma_y^2 I)
    $$

    Attributes:
      apply: x [B, *shape] -> A x [B, ...], each example on its own; jittable.
      shape: of one x, such as (H, W, C).
      linear: whether A(a x + b y) = a A x + b A y; `adjoint`, `pseudo_inverse` and `solve` need it.
      gram: c where A Aᵀ r = c r for every r in the range of A, as for masks (1) and means of blocks
        of n pixels (1/n); None where that does not hold: then `solve` iterates.
      iterations: of conjugate gradients in `solve` at most.
    """

    apply: Callable[[Array], Array]
    shape: tuple[int, ...]
    linear: bool = True
    gram: float | None = None
    iterations: int = 100

    def __call__(self, x: Array) -> Array:
        """A x.

        Args:
          x: [B, *shape].

        Returns:
          y [B, ...].

        Raises:
          ValueError: where x is of another shape, or of integers.
        """
        check_floats(x=x)
        if x.shape[1:] != tuple(self.shape):
            raise ValueError(f"the operator takes images of shape {self.shape}, not {x.shape[1:]}")
        return self.apply(x)

    def adjoint(self, y: Array) -> Array:
        r"""Aᵀ y, by transposing `apply`.

        $$
        \langle A x, y \rangle = \langle x, A^\top y \rangle
        $$

        Args:
          y: [B, ...], as `apply` returns it.

        Returns:
          [B, *shape].

        Raises:
          ValueError: where A is not linear, or y has not the shape of A x.
        """
        if not self.linear:
            raise ValueError("this operator is not linear: it has no adjoint and no inverse")
        x = jax.ShapeDtypeStruct((y.shape[0], *self.shape), y.dtype)
        if (observed := jax.eval_shape(self.apply, x).shape) != y.shape:
            raise ValueError(f"y has shape {y.shape}, but the operator's output is {observed}")
        return jax.linear_transpose(self.apply, x)(y)[0]

    def solve(self, r: Array, variance: Array | float, noise_variance: Array | float) -> Array:
        r"""The residual weighted by the inverse of its covariance, where x has variance v.

        $$
        (v\, A A^\top + \sigma_y^2 I)^{-1}\, r
        $$

        Args:
          r: [B, ...], in the range of A where both variances may be 0.
          variance: v, a scalar or one value per example [B].
          noise_variance: σ_y², a scalar or one value per example [B].

        Returns:
          Like r.

        Raises:
          ValueError: where A is not linear.
        """
        size = r.shape[0]
        v, s = (jnp.broadcast_to(jnp.asarray(x, r.dtype), size) for x in (variance, noise_variance))
        if self.linear and self.gram is not None:
            return r / (expand(v, r) * self.gram + expand(s, r))

        def one(r: Array, v: Array, s: Array) -> Array:
            def covariance(u: Array) -> Array:
                return v * self.apply(self.adjoint(u[None]))[0] + s * u

            found, _ = jax.scipy.sparse.linalg.cg(covariance, r, maxiter=self.iterations, tol=1e-6)
            return found

        return jax.vmap(one)(r, v, s)

    def pseudo_inverse(self, y: Array) -> Array:
        r"""A⁺ y, the smallest x of those that explain y best.

        $$
        A^+ y = A^\top (A A^\top)^+\, y
        $$

        Args:
          y: [B, ...].

        Returns:
          [B, *shape].

        Raises:
          ValueError: where A is not linear.
        """
        return self.adjoint(self.solve(y, 1.0, 0.0))
