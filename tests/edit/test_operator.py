"""An operator's adjoint, inverse and weights against those of its matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.edit.operator import Operator

SHAPE = (2, 3, 1)
MATRIX = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
DENSE = Operator(lambda x: x.reshape(len(x), -1) @ MATRIX.T, SHAPE)
ROWS = Operator(lambda x: x[:, :1].reshape(len(x), -1) * 2, SHAPE, gram=4.0)
BOTH = pytest.mark.parametrize("operator", [DENSE, ROWS], ids=["dense", "gram"])


def matrix(operator):
    basis = jnp.eye(6).reshape(6, *SHAPE)
    return np.asarray(operator(basis)).reshape(6, -1).T


@BOTH
def test_the_adjoint_is_the_transposed_matrix(operator):
    y = np.random.default_rng(1).normal(size=(5, len(matrix(operator)))).astype(np.float32)
    found = operator.adjoint(jnp.asarray(y)).reshape(5, -1)
    np.testing.assert_allclose(found, y @ matrix(operator), rtol=1e-5, atol=1e-6)


@BOTH
def test_residuals_are_weighted_by_the_inverse_covariance(operator):
    a = matrix(operator).astype(np.float64)
    r = np.random.default_rng(2).normal(size=(3, len(a)))
    v, s = np.array([0.5, 1.0, 2.0]), np.array([0.1, 0.01, 1.0])
    right = [np.linalg.solve(v[i] * a @ a.T + s[i] * np.eye(len(a)), r[i]) for i in range(3)]
    found = jax.jit(operator.solve)(jnp.float32(r), jnp.float32(v), jnp.float32(s))
    np.testing.assert_allclose(found, right, rtol=2e-4, atol=2e-4)


@BOTH
def test_the_pseudo_inverse_is_that_of_the_matrix(operator):
    a = matrix(operator).astype(np.float64)
    y = np.random.default_rng(3).normal(size=(2, len(a)))
    found = operator.pseudo_inverse(jnp.float32(y)).reshape(2, -1)
    np.testing.assert_allclose(found, y @ np.linalg.pinv(a).T, rtol=1e-3, atol=1e-4)


def test_a_residual_of_nothing_has_weight_nothing():
    """Conjugate gradients start at their solution, where steps are 0 / 0."""
    assert jnp.all(DENSE.solve(jnp.zeros((2, 4)), 1.0, 0.1) == 0)


def test_examples_are_weighted_each_on_its_own():
    r = jax.random.normal(jax.random.key(0), (4, 4))
    together = DENSE.solve(r * jnp.array([[1e4], [1], [1], [1]]), 1.0, 0.1)
    np.testing.assert_allclose(together[1:], DENSE.solve(r[1:], 1.0, 0.1), rtol=1e-5)


def test_wrong_arguments_are_refused_in_one_line():
    with pytest.raises(ValueError, match=r"images of shape \(2, 3, 1\), not \(3, 2, 1\)"):
        DENSE(jnp.zeros((1, 3, 2, 1)))
    with pytest.raises(ValueError, match=r"y has shape \(1, 5\)"):
        DENSE.adjoint(jnp.zeros((1, 5)))
    clipping = Operator(lambda x: x.clip(0, 1), SHAPE, linear=False)
    with pytest.raises(ValueError, match="not linear"):
        clipping.pseudo_inverse(jnp.zeros((1, *SHAPE)))
