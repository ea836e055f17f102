"""Attention on the CPU: jax.nn's values and derivatives, of any order and mode."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.models.attention import attend


def drawn(t=7, s=11, scale=1.0, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = (2, t, 3, 8), (2, s, 3, 8), (2, s, 3, 8)
    return [
        scale * jax.random.normal(key, shape, dtype)
        for key, shape in zip(keys, shapes, strict=True)
    ]


def reference(q, k, v, mask=None):
    """In float64 with NumPy, one head of one example at a time."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    y = np.zeros(q.shape)
    for b, n in np.ndindex(q.shape[0], q.shape[2]):
        logits = q[b, :, n] @ k[b, :, n].T / np.sqrt(q.shape[-1])
        logits = logits if mask is None else np.where(mask, logits, -np.inf)
        weights = np.exp(logits - logits.max(1, keepdims=True))
        y[b, :, n] = weights / weights.sum(1, keepdims=True) @ v[b, :, n]
    return y


@pytest.mark.heavy
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_attention_is_the_softmax_weighted_sum(scale):
    given = drawn(scale=scale)
    np.testing.assert_allclose(attend(*given), reference(*given), rtol=2e-5, atol=2e-6 * scale)


@pytest.mark.heavy
def test_a_mask_leaves_the_other_keys_out_of_values_and_gradients():
    given, mask = drawn(t=5, s=7), np.tril(np.ones((5, 7), bool), 1)

    @jax.jit
    def both(*given):
        ours, theirs = attend, jax.nn.dot_product_attention
        ours, theirs = partial(ours, mask=mask), partial(theirs, mask=mask[None, None])
        slopes = [
            jax.grad(lambda *a, f=f: jnp.sin(f(*a)).sum(), (0, 1, 2))(*given)
            for f in (ours, theirs)
        ]
        return ours(*given), *slopes

    found, ours, theirs = both(*given)
    np.testing.assert_allclose(found, reference(*given, mask), rtol=2e-5, atol=2e-6)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-5), ours, theirs)
    np.testing.assert_array_equal(ours[1][:, 6], 0)


@pytest.mark.heavy
def test_overflowing_logits_select_the_largest():
    q, k, v = drawn()
    k = k.at[:, 4].set(1e4 * jnp.sign(q[:, 0]))  # key 4 beats all others at query 0
    np.testing.assert_allclose(attend(q, k, v)[:, 0], v[:, 4], rtol=1e-6)
    gradients = jax.grad(lambda *a: attend(*a).sum(), (0, 1, 2))(q, k, v)
    assert all(bool(jnp.isfinite(g).all()) for g in gradients)


@pytest.mark.heavy
def test_first_and_second_derivatives_match_jax_nn():
    given = drawn()
    direction = [jnp.cos(5 * x) for x in given]

    def value(f, *a):
        return (jnp.sin(f(*a)) * jnp.arange(1.0, 9.0)[None, None, None]).sum()

    def slope(f, *a):
        return jax.jvp(lambda *a: value(f, *a), a, tuple(direction))[1]

    for function in (jax.grad(value, (1, 2, 3)), slope, jax.grad(slope, (1, 2, 3))):
        ours = jax.jit(function, static_argnums=0)(attend, *given)
        theirs = jax.jit(function, static_argnums=0)(jax.nn.dot_product_attention, *given)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-4), ours, theirs)


@pytest.mark.heavy
def test_bfloat16_is_kept_and_its_softmax_is_in_float32():
    given = drawn(t=64, s=64, dtype=jnp.bfloat16)
    y = attend(*given)
    assert y.dtype == jnp.bfloat16
    # One rounding of the weights and one of the result, 2^-9 each.
    np.testing.assert_allclose(np.asarray(y, np.float32), reference(*given), atol=3 * 2**-9)


def test_the_gradient_reduces_over_no_query_key_pairs():
    text = jax.jit(jax.grad(lambda *a: attend(*a).sum(), (0, 1, 2))).lower(*drawn()).as_text()
    pairs = "tensor<2x3x7x11xf32>"
    sums = [line for line in text.splitlines() if "stablehlo.reduce" in line and pairs in line]
    assert len(sums) == 2  # forward: the maximum and the sum
