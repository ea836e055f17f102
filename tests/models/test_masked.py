"""MADE: what each output sees, probabilities that sum to 1, and images drawn by them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.losses.likelihoods import bernoulli_nll
from genjax.models.masked import MADE, draw_binary

pytestmark = pytest.mark.heavy

SHAPE, SIZE = (2, 2, 1), 4
EVERY = np.array(list(itertools.product([0.0, 1.0], repeat=SIZE)), np.float32).reshape(16, *SHAPE)


def random_params(network, shape, seed=0):
    """Parameters without a zero, so that every connection there is counts."""
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *shape)))
    leaves, tree = jax.tree.flatten(shapes)
    rng = np.random.default_rng(seed)
    return jax.tree.unflatten(
        tree, [jnp.asarray(rng.normal(size=x.shape), x.dtype) for x in leaves]
    )


@pytest.mark.parametrize(
    ("widths", "shape"), [((30, 11), (2, 3, 1)), ((7,), (2, 2, 2)), ((), (2, 3, 1))]
)
def test_output_i_depends_on_all_inputs_before_i_and_on_no_other(widths, shape):
    network = MADE(widths)
    params = random_params(network, shape)
    x = jnp.asarray(np.random.default_rng(1).uniform(size=(1, *shape)), jnp.float32)
    size = x.size

    def flat(x):
        return network.apply(params, x.reshape(1, *shape)).ravel()

    slopes = np.asarray(jax.jit(jax.jacobian(flat))(x.ravel()))
    np.testing.assert_array_equal(slopes[np.triu_indices(size)], 0)
    assert np.abs(slopes[np.tril_indices(size, -1)]).min() > 0


def test_without_the_direct_connections_every_pixel_before_still_counts():
    network = MADE((40,))
    params = random_params(network, (2, 3, 1))
    params["params"]["direct"]["kernel"] *= 0
    x = jnp.full((1, 2, 3, 1), 0.5)
    slopes = np.asarray(
        jax.jit(jax.jacobian(lambda x: network.apply(params, x.reshape(1, 2, 3, 1)).ravel()))(
            x.ravel()
        )
    )
    np.testing.assert_array_equal(slopes[np.triu_indices(6)], 0)
    # ReLUs that are off hide some pairs; a mask too strict would hide all of a row or column.
    assert (np.abs(slopes).sum(1)[1:] > 0).all()
    assert (np.abs(slopes).sum(0)[:-1] > 0).all()


@pytest.mark.parametrize("label", [None, 1])
def test_the_probabilities_of_all_images_sum_to_one(label):
    network = MADE((9, 5), classes=2)
    params = random_params(network, SHAPE)
    labels = None if label is None else jnp.full(16, label)
    log_p = -np.asarray(bernoulli_nll(network.apply(params, EVERY, labels), EVERY), np.float64)
    assert np.exp(log_p).sum() == pytest.approx(1, rel=1e-5)
    assert np.exp(log_p).max() > 0.1  # far from uniform


def test_the_network_follows_its_definition():
    network, widths = MADE((9, 5), classes=2), (9, 5)
    params = random_params(network, SHAPE)
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params["params"])
    label = np.arange(16) % 3  # 2: no class
    pixels = h = 2 * EVERY.reshape(16, SIZE).astype(np.float64) - 1
    # A unit of degree k sees pixels 1 to k; degrees run evenly from 1 to 3.
    degrees = [np.array([1 + j * 3 // width for j in range(width)]) for width in widths]
    below, numbers = np.arange(1, 5), np.arange(1, 5)
    for i, degree in enumerate(degrees):
        layer = p[f"MaskedDense_{i}"]
        seen = below[:, None] <= degree if i == 0 else degrees[i - 1][:, None] <= degree
        h = h @ (seen * layer["kernel"]) + layer["bias"]
        if i == 0:  # the class is known to every unit
            (embedding,) = jax.tree.leaves(p["ClassEmbedding_0"])
            h = h + embedding[label]
        h = np.maximum(h, 0)
    out, direct = p["MaskedDense_2"], p["direct"]
    logits = h @ ((degrees[1][:, None] < numbers) * out["kernel"]) + out["bias"]
    logits += pixels @ ((numbers[:, None] < numbers) * direct["kernel"]) + direct["bias"]
    found = network.apply(params, EVERY, label).reshape(16, SIZE)
    np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-4)


def test_images_are_drawn_with_their_probabilities():
    network = MADE((9, 5))
    params = jax.tree.map(lambda x: 0.5 * x, random_params(network, SHAPE))
    p = np.exp(-np.asarray(bernoulli_nll(network.apply(params, EVERY), EVERY), np.float64))
    n = 40_000
    draws = jax.jit(lambda u: draw_binary(lambda x: network.apply(params, x), u))(
        jax.random.uniform(jax.random.key(2), (n, *SHAPE))
    )
    numbers = np.asarray(draws, int).reshape(n, SIZE) @ (8, 4, 2, 1)
    shares = np.bincount(numbers, minlength=16) / n
    assert (np.abs(shares - p) < 5 * np.sqrt(p * (1 - p) / n) + 1e-6).all()


def test_a_pixel_is_drawn_by_its_own_number_and_those_before_it():
    network = MADE((20,))
    params = random_params(network, (2, 3, 1))
    uniform = np.random.default_rng(3).uniform(size=(1, 2, 3, 1)).astype(np.float32)
    images = draw_binary(lambda x: network.apply(params, x), jnp.asarray(uniform))
    logits = network.apply(params, images)
    np.testing.assert_array_equal(images, uniform < jax.nn.sigmoid(logits))
