"""The layers against linen's of the same name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from genjax.models import layers, normalization

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (8, 6, 6, 12)) * 2 + 1


def value_and_gradients(module, variables, x=X, **arguments):
    @jax.jit
    def both(variables, x):
        y, back = jax.vjp(lambda v, x: module.apply(v, x, **arguments), variables, x)
        return y, *back(jnp.cos(y))

    return both(variables, x)


def assert_trees_close(ours, theirs, **tolerance):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), ours, theirs)


# Sums of some hundred float32 numbers of order one, in another order.
SUMS = {"rtol": 1e-4, "atol": 1e-4}


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (layers.Conv(5, (3, 3), (2, 2)), nn.Conv(5, (3, 3), (2, 2))),
        (layers.Conv(5, (1, 1), use_bias=False), nn.Conv(5, (1, 1), use_bias=False)),
        (layers.Projection(5), nn.Dense(5)),
        (
            layers.ConvTranspose(5, (4, 4), (2, 2), padding="VALID"),
            nn.ConvTranspose(5, (4, 4), (2, 2), padding="VALID"),
        ),
    ],
)
def test_layers_match_linen_in_parameters_values_and_gradients(ours, theirs):
    variables = ours.init(KEY, X)
    assert_trees_close(variables, theirs.init(KEY, X), rtol=0)
    variables = jax.tree.map(lambda a: a + 0.1, variables)  # scale and bias away from 1 and 0
    assert_trees_close(
        value_and_gradients(ours, variables), value_and_gradients(theirs, variables), **SUMS
    )


@pytest.mark.heavy
def test_upsample_conv_matches_linens_conv_of_doubled_pixels():
    variables = layers.UpsampleConv(5).init(KEY, X)
    doubled = X.repeat(2, axis=1).repeat(2, axis=2)
    expected = nn.Conv(5, (3, 3)).apply(variables, doubled)
    np.testing.assert_allclose(layers.UpsampleConv(5).apply(variables, X), expected, **SUMS)


@pytest.mark.heavy
def test_attention_starts_as_identity_and_mixes_all_pixels_of_one_image():
    module = layers.Attention(head_features=6, groups=4)
    variables = module.init(KEY, X)
    np.testing.assert_array_equal(module.apply(variables, X), X)
    variables = jax.tree.map(lambda a: a + 0.1, variables)

    def pixel(x):
        return module.apply(variables, x)[3, 2, 2, 0]

    reach = jnp.abs(jax.jit(jax.grad(pixel))(X)).sum(-1)  # [B, H, W]
    assert reach[3].min() > 0
    assert reach.sum() == reach[3].sum()


def test_attention_is_softmax_of_scaled_products():
    module = layers.Attention(head_features=6, groups=4)
    variables = jax.tree.map(lambda a: a + 0.1, module.init(KEY, X))
    p = variables["params"]
    normed = normalization.GroupNorm(4).apply({"params": p["GroupNorm_0"]}, X).reshape(8, 36, 12)
    q, k, v = np.split(normed @ p["qkv"]["kernel"] + p["qkv"]["bias"][None, None], 3, axis=-1)
    heads = []
    for head in (slice(0, 6), slice(6, 12)):
        scores = np.exp(np.einsum("bid,bjd->bij", q[..., head], k[..., head]) / np.sqrt(6))
        weights = scores / scores.sum(-1, keepdims=True)
        heads.append(np.einsum("bij,bjd->bid", weights, v[..., head]))
    mixed = np.concatenate(heads, axis=-1) @ p["out"]["kernel"] + p["out"]["bias"][None, None]
    np.testing.assert_allclose(module.apply(variables, X), X + mixed.reshape(X.shape), **SUMS)


def test_time_embedding_is_that_of_a_thousand_steps():
    t = jnp.array([0.0, 0.25, 1.0])
    e = layers.time_embedding(t, 6)
    omega = 10000.0 ** -np.array([0.0, 0.5, 1.0])
    angle = 1000 * np.asarray(t)[:, None] * omega
    # float32 knows an angle of 1,000 to 6e-5.
    np.testing.assert_allclose(e, np.concatenate([np.sin(angle), np.cos(angle)], 1), atol=1e-4)


def test_time_embedding_of_dit_stops_before_the_last_frequency():
    t = np.array([0.0, 0.25, 1.0])
    angle = 7 * t[:, None] * 10000.0 ** -(np.arange(3) / 3)
    e = layers.time_embedding(jnp.asarray(t), 6, scale=7.0, endpoint=False)
    np.testing.assert_allclose(e, np.concatenate([np.sin(angle), np.cos(angle)], 1), atol=1e-6)


@pytest.mark.heavy
def test_dropout_rescales_and_depends_on_the_key_of_each_example():
    module = layers.Dropout(0.3)
    keys = jax.random.split(KEY, 8)
    ones = jnp.ones((8, 1000))
    y = np.asarray(module.apply({}, ones, keys))
    assert set(np.unique(y)) == {0, y.max()}
    # 8,000 draws: five standard deviations of the mean; the scale keeps the mean at one.
    assert abs(y.mean() - 1) < 5 * np.sqrt(0.3 / 0.7 / y.size)
    np.testing.assert_array_equal(y[5:6], module.apply({}, ones[5:6], keys[5:6]))
    assert (y[0] != y[1]).any()
    np.testing.assert_array_equal(module.apply({}, ones, None), ones)


def test_indivisible_sizes_raise():
    with pytest.raises(ValueError, match="12 channels do not divide into heads of 5"):
        layers.Attention(5, groups=4).init(KEY, X)
    with pytest.raises(ValueError, match="even"):
        layers.time_embedding(jnp.zeros(2), 5)


def test_relu_matches_linen_in_values_and_gradients():
    x = jnp.array([-2.0, -0.0, 0.0, 3.0, -jnp.inf, jnp.inf, jnp.nan], jnp.float32)
    np.testing.assert_array_equal(layers.relu(x), nn.relu(x))
    np.testing.assert_array_equal(jax.vmap(jax.grad(layers.relu))(x[:-1]), [0, 0, 0, 1, 0, 1])
    half = x.astype(jnp.bfloat16)
    assert layers.relu(half).dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.float32(layers.relu(half)), np.float32(nn.relu(half)))
