"""R3GAN's networks: against the formulas, their start, and the sizes of the released code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from genjax.models import convolution
from genjax.models.r3gan import Block, Critic, Generator

pytestmark = pytest.mark.heavy

SMALL = {"widths": (4, 2), "blocks": 1, "group": 2, "classes": 3}


def random_params(network, *inputs):
    """Parameters without a zero, so that every layer counts."""
    shapes = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), shapes)


def test_a_grouped_convolution_is_one_convolution_per_group_and_that_of_lax():
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 4))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 2, 6))
    axes = ("NHWC", "HWIO", "NHWC")

    def lax_conv(x, kernel, groups=2):
        return lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=axes, feature_group_count=groups
        )

    def slopes(conv):
        return jax.jit(jax.grad(lambda x, k: jnp.sin(conv(x, k)).sum(), (0, 1)))(x, kernel)

    np.testing.assert_allclose(
        jax.jit(convolution.conv_grouped)(x, kernel), lax_conv(x, kernel), rtol=1e-5, atol=1e-5
    )
    for ours, theirs in zip(slopes(convolution.conv_grouped), slopes(lax_conv), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    many = jax.random.normal(jax.random.key(2), (1, 2, 2, 17))
    kernel = jax.random.normal(jax.random.key(3), (3, 3, 1, 17))
    found = convolution.conv_grouped(many, kernel)
    np.testing.assert_allclose(found, lax_conv(many, kernel, 17), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="groups of 2 channels do not divide"):
        convolution.conv_grouped(many, jnp.zeros((3, 3, 2, 17)))


def test_blocks_start_as_the_identity_with_the_scale_of_their_depth():
    x = jax.random.normal(jax.random.key(0), (1, 2, 2, 64))
    params = jax.jit(Block(16, depth=16).init)(jax.random.key(1), x)
    np.testing.assert_array_equal(Block(16, depth=16).apply(params, x), x)
    kernels = {name: layer["kernel"] for name, layer in params["params"].items()}
    gain = np.sqrt(2 / 1.04) / 2  # 16^(-1/4)
    assert np.std(kernels["expand"]) == pytest.approx(gain / np.sqrt(64), rel=0.05)
    assert np.std(kernels["grouped"]) == pytest.approx(gain / np.sqrt(9 * 16), rel=0.05)
    assert not kernels["contract"].any()


def leaky(x):
    return np.where(x >= 0, x, 0.2 * x)


def direct_block(x, p, group):
    """A block by the sums of its definition, in float64."""
    y = leaky(x @ p["expand"]["kernel"][0, 0] + p["expand"]["bias"])
    padded, out = np.pad(y, ((0, 0), (1, 1), (1, 1), (0, 0))), np.zeros_like(y)
    h, w = y.shape[1:3]
    for i, j in np.ndindex(3, 3):
        for start in range(0, y.shape[-1], group):
            own = slice(start, start + group)
            seen = padded[:, i : i + h, j : j + w, own]
            out[..., own] += seen @ p["grouped"]["kernel"][i, j, :, own]
    return x + leaky(out + p["grouped"]["bias"]) @ p["contract"]["kernel"][0, 0]


def bilinear(n):
    """[2n, n]: how each of 2n pixels of a row takes of n, with zeros outside."""
    matrix = np.zeros((2 * n, n))
    for i, k in np.ndindex(n, 4):
        if 0 <= 2 * i + k - 1 < 2 * n:
            matrix[2 * i + k - 1, i] = (0.25, 0.75, 0.75, 0.25)[k]
    return matrix


def test_the_generators_basis_is_standard_normal_at_first():
    generator = Generator((8, 8, 1), widths=(256, 8), blocks=1, group=8)
    basis = generator.init(jax.random.key(0), jnp.zeros((1, 4)))["params"]["basis"]
    assert basis.shape == (4, 4, 256)
    # Of 4,096 numbers the deviation is right to 1.1 %.
    assert float(basis.std()) == pytest.approx(1, abs=0.05)


def test_both_networks_follow_their_definition():
    generator, critic = Generator((4, 6, 1), **SMALL), Critic(**SMALL)
    rng = np.random.default_rng(1)
    z, label = rng.normal(size=(2, 5)).astype(np.float32), np.array([2, 3])  # 3: no class
    one_hot = np.array([[0, 0, 1], [0, 0, 0]])
    rows, columns = bilinear(2), bilinear(3)

    made_by = random_params(generator, jnp.asarray(z), label)
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), made_by["params"])
    y = np.concatenate([z, one_hot @ p["embedding"]["kernel"]], 1) @ p["modulation"]["kernel"]
    x = direct_block(p["basis"] * y[:, None, None], p["Block_0"], 2) @ p["Conv_0"]["kernel"][0, 0]
    x = direct_block(np.einsum("ah,bw,nhwc->nabc", rows, columns, x), p["Block_1"], 2)
    image = x @ p["image"]["kernel"][0, 0]
    np.testing.assert_allclose(
        jax.jit(generator.apply)(made_by, z, label), image, rtol=2e-4, atol=2e-3
    )

    shown = rng.normal(size=(2, 4, 6, 1)).astype(np.float32)
    judged_by = random_params(critic, shown, label)
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), judged_by["params"])
    x = direct_block(shown @ p["image"]["kernel"][0, 0], p["Block_0"], 2)
    x = np.einsum("ah,bw,nabc->nhwc", rows, columns, x) / 4 @ p["Conv_0"]["kernel"][0, 0]
    x = (direct_block(x, p["Block_1"], 2) * p["basis"]).sum((1, 2)) @ p["output"]["kernel"]
    output = (x * (one_hot @ p["embedding"]["kernel"])).sum(1)
    found = jax.jit(critic.apply)(judged_by, shown, label)
    np.testing.assert_allclose(found, output, rtol=2e-4, atol=2e-3)
    assert found[1] == 0 != found[0]


def test_labels_and_sides_that_do_not_fit_are_refused():
    x = jnp.zeros((1, 8, 8, 1))
    for network, given in (
        (Generator((8, 8, 1), (4, 4), 1, 2), jnp.zeros((1, 4))),
        (Critic((4, 4), 1, 2), x),
    ):
        with pytest.raises(ValueError, match="needs a network with `classes`"):
            network.init(jax.random.key(0), given, jnp.zeros(1, int))
    with pytest.raises(ValueError, match="2 doublings need sides divisible by 4"):
        Critic((4, 4, 4), 1, 2).init(jax.random.key(0), x[:, :6])


# The shapes of R3GAN/Networks.py with the settings of train.py's CIFAR-10 by class, which has 64
# numbers of noise, 4 stages of 768 channels, 2 blocks of 96 groups each, and 10 classes.
BLOCK = 768 * 1536 + 1536 + 9 * 16 * 1536 + 1536 + 1536 * 768
GENERATOR = 10 * 64 + (64 + 64) * 768 + 768 * 4 * 4 + 8 * BLOCK + 768 * 3
CRITIC = 3 * 768 + 8 * BLOCK + 768 * 4 * 4 + 768 * 768 + 10 * 768


def test_the_papers_networks_have_the_parameters_of_its_code():
    def count(network, given):
        label = jax.ShapeDtypeStruct((1,), jnp.int32)
        found = jax.eval_shape(network.init, jax.random.key(0), given, label)
        assert found["params"]["Block_7"]["grouped"]["kernel"].shape == (3, 3, 16, 1536)
        return sum(leaf.size for leaf in jax.tree.leaves(found))

    noise = jax.ShapeDtypeStruct((1, 64), jnp.float32)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    assert count(Generator((32, 32, 3), classes=10), noise) == GENERATOR == 20_781_952
    assert count(Critic(classes=10), image) == CRITIC == 21_280_512
