"""Attention, group normalisation and convolutions against float64, with their gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from genjax.models.attention import attend
from genjax.models.normalization import GroupNorm
from tests.gpu.closeness import computing_on, distance, host

pytestmark = pytest.mark.gpu

# Sums of up to 16,000 float32 terms, a few operations deep; each bfloat16 result rounds by 2⁻⁹,
# and the softmax's weights and the gradients are such results, too.
LIMITS = {"float32": 1e-5, "bfloat16": 1.5e-2}
GROUPS, EPSILON = 8, 1e-6
every_dtype = pytest.mark.parametrize("dtype", LIMITS)


def normal(seed, *shape, dtype="float32"):
    """Numbers that the dtype holds exactly."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def with_gradients(function, cotangent, arguments):
    y, pull_back = jax.vjp(function, *arguments)
    return y, pull_back(cotangent.astype(y.dtype))


def exact(function, cotangent, arguments):
    """The same in float64 on the CPU."""
    with jax.enable_x64(True), computing_on(jax.devices("cpu")[0]):
        wide = [np.asarray(x, np.float64) for x in (cotangent, *arguments)]
        return host(with_gradients(function, wide[0], wide[1:]))


def found(function, cotangent, arguments):
    with jax.default_matmul_precision("highest"):
        return host(jax.jit(functools.partial(with_gradients, function))(cotangent, arguments))


def attention(q, k, v):
    weights = jax.nn.softmax(jnp.einsum("btnd,bsnd->bnts", q, k) / np.sqrt(q.shape[-1]))
    return jnp.einsum("bnts,bsnd->btnd", weights, v)


@every_dtype
@pytest.mark.parametrize(("tokens", "width"), [(256, 64), (49, 32)])
def test_attention_is_that_in_float64(dtype, tokens, width):
    cotangent, *qkv = (normal(i, 2, tokens, 4, width, dtype=dtype) for i in range(4))
    apart = distance(found(attend, cotangent, qkv), exact(attention, cotangent, qkv))
    assert apart < LIMITS[dtype]


def normalised(x, scale, bias):
    grouped = x.reshape(*x.shape[:-1], GROUPS, -1)
    axes = (*range(1, x.ndim - 1), x.ndim)
    mean, var = grouped.mean(axes, keepdims=True), grouped.var(axes, keepdims=True)
    y = ((grouped - mean) / jnp.sqrt(var + EPSILON)).reshape(x.shape)
    return y * jnp.broadcast_to(scale, x.shape) + jnp.broadcast_to(bias, x.shape)


@every_dtype
@pytest.mark.parametrize("shape", [(4, 32, 32, 64), (3, 7, 7, 24)])
def test_group_norm_is_that_in_float64(dtype, shape):
    layer, channels = GroupNorm(GROUPS, EPSILON), shape[-1]

    def ours(x, scale, bias):
        return layer.apply({"params": {"scale": scale, "bias": bias}}, x)

    arguments = (
        0.5 + normal(0, *shape, dtype=dtype),
        1 + normal(1, channels) / 4,
        normal(2, channels),
    )
    cotangent = normal(3, *shape, dtype=dtype)
    apart = [
        distance(a, b)
        for a, b in zip(
            jax.tree.leaves(found(ours, cotangent, arguments)),
            jax.tree.leaves(exact(normalised, cotangent, arguments)),
            strict=True,
        )
    ]
    assert max(apart) < LIMITS[dtype]


@pytest.mark.parametrize("precision", ["highest", "default"])
def test_a_convolution_rounds_factors_to_tf32_unless_told_otherwise(device, precision):
    """What the README of a run's numbers says of float32 on an NVIDIA GPU."""
    x, kernel = normal(0, 8, 16, 16, 64), normal(1, 3, 3, 64, 64) / 24

    def convolve(x, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)

    with jax.default_matmul_precision(precision):
        y = np.asarray(jax.jit(convolve)(x, kernel))
    with jax.enable_x64(True), computing_on(jax.devices("cpu")[0]):
        expected = np.asarray(convolve(np.asarray(x, np.float64), np.asarray(kernel, np.float64)))
    apart = distance(y, expected)
    # 2⁻¹¹ for either factor of a product; their sum of 576 has random signs.
    assert apart < (1e-6 if precision == "highest" or device.platform == "cpu" else 1e-3)
