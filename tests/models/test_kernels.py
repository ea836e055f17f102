"""Functions with kernels: derivatives as their definition's, and which programs have kernels."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.models import attention, kernels

pytestmark = pytest.mark.heavy


def definition(q, k, v, *, settings):
    return jax.nn.dot_product_attention(q, k, v)


@pytest.fixture(scope="module")
def derivatives():
    """Derivatives of attention in several orders and modes, with kernels and without."""
    directions = [jax.random.normal(k, (2, 5, 3, 8)) for k in jax.random.split(jax.random.key(0))]
    arrays = [jax.random.normal(jax.random.key(i), (2, 5, 3, 8)) for i in range(1, 4)]

    def of(f):
        def value(*arrays):
            return (jnp.sin(f(*arrays)) * jnp.arange(1.0, 9.0)[None, None, None]).sum()

        def slope(*arrays):
            return jax.jvp(value, arrays, (directions[0], directions[1], arrays[0]))[1]

        def everything(*arrays):
            gradient = jax.grad(value, (0, 1, 2))
            moved = jax.jvp(gradient, arrays, (directions[1], arrays[1], directions[0]))[1]
            alone = [a[:, None] for a in arrays]
            return {
                "value": f(*arrays),
                "gradient": gradient(*arrays),
                "forward": slope(*arrays),
                "reverse over forward": jax.grad(slope, (0, 1, 2))(*arrays),
                "forward over reverse": moved,
                "recomputed": jax.grad(jax.checkpoint(value))(*arrays),
                "of each": jax.vmap(f)(*alone),
                "gradient of each": jax.vmap(gradient)(*alone),
            }

        return jax.jit(everything)(*arrays)

    def gradient(q, k, v, dy, *, settings):
        return list(jax.vjp(partial(definition, settings=None), q, k, v)[1](dy))

    ours = kernels.with_kernels("attention_twice", definition, definition, gradient)
    return of(partial(ours, settings=None)), of(partial(definition, settings=None))


@pytest.mark.parametrize(
    "name",
    ["value", "gradient", "forward", "reverse over forward", "forward over reverse", "recomputed",
     "of each", "gradient of each"],
)  # fmt: skip
def test_a_function_with_kernels_has_the_derivatives_of_its_definition(derivatives, name):
    ours, theirs = (d[name] for d in derivatives)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-4), ours, theirs)


def marked():
    """A function with kernels that can be told from its definition in a program."""

    def backward(x, dy, *, settings):
        return [jnp.tan(dy)]

    return kernels.with_kernels(
        "marked", lambda x, *, settings: jnp.sinh(x), lambda x, *, settings: jnp.atan(x), backward
    )


def test_only_programs_for_one_gpu_have_the_kernels():
    function = partial(marked(), settings=None)

    def program(platform):
        both = jax.jit(lambda x: (*jax.vjp(function, x)[1](jnp.ones(3)), function(x)))
        traced = both.trace(jnp.ones(3))
        return traced.lower(lowering_platforms=(platform,)).as_text()

    assert all(operation in program("cuda") for operation in ("atan", "tan "))
    assert "sinh" not in program("cuda")
    for platform in ("cpu", "tpu", "rocm"):
        assert "atan" not in program(platform)
        assert "sinh" in program(platform)


def test_a_program_split_over_devices_has_no_kernels():
    function = partial(marked(), settings=None)
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()), ("data",))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    x = jax.ShapeDtypeStruct((8,), jnp.float32, sharding=split)
    text = jax.jit(function).trace(x).lower(lowering_platforms=("cuda",)).as_text()
    assert "atan" not in text
    assert "sinh" in text
    each = jax.shard_map(
        function, mesh=mesh, in_specs=split.spec, out_specs=split.spec, check_vma=False
    )
    text = jax.jit(each).trace(x).lower(lowering_platforms=("cuda",)).as_text()
    assert "atan" in text
    assert "sinh" not in text


@pytest.mark.parametrize(
    ("dtype", "features", "taken"),
    [("bfloat16", 64, True), ("float16", 128, True), ("bfloat16", 256, False),
     ("bfloat16", 20, False), ("float32", 64, False)],
)  # fmt: skip
def test_cudnn_computes_attention_in_half_precision_where_its_gradient_is_fast(
    monkeypatch, dtype, features, taken
):
    def operations(length=4):
        q = jax.ShapeDtypeStruct((2, length, 1, features), dtype)
        program = jax.make_jaxpr(lambda *a: attention.attend(*a))(q, q, q)
        return {equation.primitive.name for equation in program.eqns}

    assert "attention" not in operations()
    monkeypatch.setattr(kernels, "on_nvidia", lambda: True)
    monkeypatch.setattr(kernels, "_traced", lambda *_: None)  # there is no cuDNN to trace here
    assert ("attention" in operations()) is taken
    assert "attention" not in operations(length=49)  # cuDNN has no gradient of odd lengths


def test_a_process_on_a_cpu_takes_no_detour():
    assert not kernels.on_nvidia()
