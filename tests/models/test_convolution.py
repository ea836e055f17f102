"""The trilinear convolutions against lax's own: values, derivatives of any order, transforms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from genjax.models.convolution import conv, conv_transpose, conv_upsampled

AXES = ("NHWC", "HWIO", "NHWC")
# Both sum some hundred products of order one in float32, in another order.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def lax_conv(x, kernel, stride=(1, 1), padding="SAME"):
    return lax.conv_general_dilated(x, kernel, stride, padding, dimension_numbers=AXES)


def lax_conv_transpose(x, kernel, stride=(1, 1), padding="SAME"):
    return lax.conv_transpose(x, kernel, stride, padding, dimension_numbers=AXES)


def lax_conv_upsampled(x, kernel):
    return lax_conv(x.repeat(2, axis=1).repeat(2, axis=2), kernel)


def arrays(*shapes):
    """Normal arrays scaled so that a convolution's outputs are of order one."""
    rng = np.random.default_rng(0)
    return [
        jnp.asarray(rng.normal(size=s) / np.sqrt(np.prod(s[:3]) if i else 1), jnp.float32)
        for i, s in enumerate(shapes)
    ]


def assert_close(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.shape == b.shape
        scale = np.abs(b).max() if b.size else 1.0
        np.testing.assert_allclose(a / scale, b / scale, **TOLERANCE)


def value_and_gradients(f, x, kernel, **arguments):
    """f's value, and the gradients of ½‖f‖² + ⟨f, cos f⟩, which depend on every output."""

    @jax.jit
    def both(x, kernel):
        y, back = jax.vjp(lambda x, k: f(x, k, **arguments), x, kernel)
        return y, back(y + jnp.cos(y))

    return both(x, kernel)


# Image, kernel, channels in and out, stride, padding: wide and narrow enough for either CPU way.
CASES = [
    ((7, 8), (1, 1), 5, 3, (1, 1), "SAME"),
    ((7, 8), (1, 1), 5, 3, (1, 1), ((0, 1), (0, -2))),
    ((7, 8), (1, 1), 20, 3, (2, 2), "SAME"),
    ((7, 8), (3, 3), 20, 3, (1, 1), "SAME"),
    ((6, 5), (3, 3), 2, 20, (2, 2), "SAME"),
    ((6, 5), (3, 3), 20, 20, (2, 2), "VALID"),
    ((8, 8), (4, 4), 20, 20, (2, 2), "SAME"),
    ((7, 7), (4, 4), 3, 20, (2, 2), "VALID"),
    ((7, 7), (5, 5), 20, 20, (2, 2), "SAME"),
    ((7, 6), (5, 5), 3, 4, (1, 1), "VALID"),
    ((9, 7), (2, 3), 17, 18, (3, 2), "SAME"),
    ((9, 7), (2, 2), 17, 18, (3, 3), "VALID"),
    ((6, 7), (3, 4), 18, 17, (2, 3), ((2, 1), (0, 3))),
    ((8, 7), (3, 3), 18, 17, (2, 2), ((-1, 2), (1, -1))),
]


@pytest.mark.heavy
@pytest.mark.parametrize(("size", "window", "c", "d", "stride", "padding"), CASES)
@pytest.mark.parametrize("kind", [(conv, lax_conv), (conv_transpose, lax_conv_transpose)])
def test_value_and_gradients_match_lax(kind, size, window, c, d, stride, padding):
    x, kernel = arrays((2, *size, c), (*window, c, d))
    ours, theirs = (value_and_gradients(f, x, kernel, stride=stride, padding=padding) for f in kind)
    assert_close(ours, theirs)


@pytest.mark.heavy
@pytest.mark.parametrize("window", [(3, 3), (5, 1)])
def test_upsampled_convolution_is_the_convolution_of_doubled_pixels(window):
    x, kernel = arrays((2, 3, 4, 18), (*window, 18, 17))
    ours, theirs = (value_and_gradients(f, x, kernel) for f in (conv_upsampled, lax_conv_upsampled))
    assert_close(ours, theirs)


X, *KERNELS = arrays((8, 6, 6, 3), (4, 4, 3, 18), (5, 5, 18, 17))


def network(down, up):
    def f(x, k, l):
        return jnp.tanh(up(jnp.tanh(down(x, k, stride=(2, 2))), l, stride=(2, 2)))

    return f


def energy(f):
    return lambda *inputs: jnp.square(f(*inputs)).sum()


NETWORKS = network(conv, conv_transpose), network(lax_conv, lax_conv_transpose)
TANGENT = tuple(jnp.cos(a) for a in (X, *KERNELS))
ALL = (0, 1, 2)


def penalty(f):
    """Reverse over reverse: the gradient of a squared gradient, as in R1 and WGAN-GP."""
    slope = jax.grad(energy(f))
    return jax.grad(energy(slope), ALL)(X, *KERNELS)


def hessian_vector(f):
    return jax.jvp(jax.grad(energy(f), ALL), (X, *KERNELS), TANGENT)


def gradient_of_a_tangent(f):
    """Reverse over forward, as in MeanFlow and sliced score matching."""
    return jax.grad(energy(lambda *a: jax.jvp(f, a, TANGENT)[1]), ALL)(X, *KERNELS)


def for_each_example(f):
    gradient = jax.grad(lambda x, *k: energy(f)(x[None], *k), ALL)
    return jax.vmap(gradient, (0, None, None))(X, *KERNELS)


def for_each_kernel(f):
    stacked = [jnp.stack([k, -2 * k]) for k in KERNELS]
    return jax.vmap(jax.grad(energy(f), ALL), (None, 0, 0))(X, *stacked)


def checkpointed(f):
    return jax.grad(jax.checkpoint(energy(f)), ALL)(X, *KERNELS)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "transform",
    [
        penalty,
        hessian_vector,
        gradient_of_a_tangent,
        for_each_example,
        for_each_kernel,
        checkpointed,
    ],
)
def test_transformations_match_lax(transform):
    ours, theirs = (jax.jit(lambda f=f: transform(f))() for f in NETWORKS)
    assert_close(ours, theirs)


@pytest.mark.heavy
def test_pmapped_and_sharded_gradients_are_those_of_one_device():
    gradient = jax.grad(energy(NETWORKS[0]), ALL)
    expected = jax.jit(gradient)(X, *KERNELS)

    def summed(x, *kernels):
        dx, *dk = gradient(x, *kernels)
        return dx, lax.psum(dk, "data")

    pmapped = jax.pmap(summed, "data", in_axes=(0, None, None), out_axes=(0, None))
    dx, dk = pmapped(X[:, None], *KERNELS)
    assert_close((dx[:, 0], dk), expected)

    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    full = NamedSharding(mesh, PartitionSpec())
    x = jax.device_put(X, NamedSharding(mesh, PartitionSpec("data")))
    sharded = jax.jit(gradient)(x, *jax.device_put(KERNELS, full))
    assert sharded[0].sharding.spec[0] == "data"
    assert_close(sharded, expected)


def test_only_the_cpu_avoids_dilated_convolutions():
    def program(platform):
        f = jax.jit(lambda x, k: conv_transpose(x, k, stride=(2, 2)))
        shapes = (
            jax.ShapeDtypeStruct((1, 4, 4, 32), X.dtype),
            jax.ShapeDtypeStruct((4, 4, 32, 32), X.dtype),
        )
        return export.export(f, platforms=[platform])(*shapes).mlir_module()

    assert "lhs_dilate = [2, 2]" not in program("cpu")
    assert "lhs_dilate = [2, 2]" in program("cuda")
    assert "lhs_dilate = [2, 2]" in program("tpu")


def test_bfloat16_stays_bfloat16_to_its_own_precision():
    x, kernel = (a.astype(jnp.bfloat16) for a in (X, KERNELS[0]))
    y, back = jax.vjp(lambda *a: conv(*a, stride=(2, 2)), x, kernel)
    assert {a.dtype for a in (y, *back(y))} == {jnp.dtype(jnp.bfloat16)}
    exact = lax_conv(X, KERNELS[0], stride=(2, 2))
    # 48 products of inputs rounded to 8 bits.
    np.testing.assert_allclose(y.astype(jnp.float32), exact, atol=2**-8 * 48**0.5)


def test_mismatched_operands_raise_naming_both():
    with pytest.raises(ValueError, match=r"\(8, 6, 6, 3\) and \(5, 5, 18, 17\)"):
        conv(X, KERNELS[1])
    with pytest.raises(ValueError, match="float32 and bfloat16"):
        conv(X, KERNELS[0].astype(jnp.bfloat16))
    with pytest.raises(ValueError, match="odd"):
        conv_upsampled(X, KERNELS[0])
