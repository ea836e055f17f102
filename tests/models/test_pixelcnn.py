"""PixelCNN: what each output sees, probabilities that sum to 1, and images drawn by them."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.losses.likelihoods import bernoulli_nll, discretized_logistic_mixture_nll
from genjax.models import logistic_mixture
from genjax.models.pixelcnn import GatedLayer, PixelCNN

pytestmark = pytest.mark.heavy

mixture_nll = jax.jit(partial(discretized_logistic_mixture_nll, low=-1.0))


def random_params(network, shape, seed=0):
    """Parameters without a zero, so that every connection there is counts."""
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *shape)))
    leaves, tree = jax.tree.flatten(shapes)
    rng = np.random.default_rng(seed)
    return jax.tree.unflatten(
        tree, [jnp.asarray(0.3 * rng.normal(size=x.shape), x.dtype) for x in leaves]
    )


def slopes(network, shape, label=None, **options):
    """How much the numbers at pixel p change with pixel q: [p, q], pixels in raster order."""
    params, (rows, columns, channels) = random_params(network, shape), shape
    pixels, rng = rows * columns, np.random.default_rng(1)
    x = np.broadcast_to(rng.uniform(-1, 1, shape), (pixels, *shape)).astype(np.float32)
    one = np.eye(pixels, dtype=np.float32).reshape(pixels, rows, columns, 1)
    weights = one * rng.normal(size=network.outputs).astype(np.float32)
    label = None if label is None else jnp.full(pixels, label)

    @jax.jit
    def gradient(x):
        return jax.grad(lambda x: (weights * network.apply(params, x, label, **options)).sum())(x)

    return np.abs(np.asarray(gradient(x)).reshape(pixels, pixels, channels))


@pytest.mark.parametrize(
    ("network", "shape", "label"),
    [
        (PixelCNN(1, channels=3, depth=2), (5, 5, 1), None),
        (PixelCNN(logistic_mixture.outputs(3, 2), 3, 3, classes=2, sides=(4, 5)), (4, 5, 3), 1),
    ],
)
def test_the_numbers_of_a_pixel_depend_on_all_pixels_before_it_and_on_no_other(
    network, shape, label
):
    found = slopes(network, shape, label)
    size = len(found)
    np.testing.assert_array_equal(found[np.triu_indices(size)], 0)
    # Above to the right as well: no blind spot.
    assert found[np.tril_indices(size, -1)].min() > 1e-9


def test_one_layer_reaches_five_rows_up_and_four_pixels_to_the_left():
    found = slopes(PixelCNN(1, channels=3, depth=1), (8, 10, 1))[:, :, 0].reshape(8, 10, 8, 10)
    expected = np.zeros((8, 10), bool)
    # Up: two rows by the first convolution of the vertical stack, one by each of the layer's two,
    # and one by the second of the horizontal layer, which also sees one pixel further left.
    expected[2:7, 1:9] = True
    expected[7, 1:5] = True
    np.testing.assert_array_equal(found[7, 5] > 1e-9, expected)


def test_dropout_is_that_of_an_examples_key_and_lets_no_later_pixel_through():
    layer, rng = GatedLayer(left=True, dropout=0.5), np.random.default_rng(2)
    x = rng.normal(size=(3, 3, 4, 2)).astype(np.float32)
    keys = rng.integers(0, 2**32, (3, 2), np.uint32)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x, [], None, None)
    params = jax.tree.map(lambda a: rng.normal(size=a.shape).astype(np.float32), shapes)
    run = jax.jit(lambda x, keys: layer.apply(params, x, [], None, jax.random.wrap_key_data(keys)))
    found, order = np.asarray(run(x, keys)), np.array([2, 2, 0])
    np.testing.assert_allclose(run(x[order], keys[order]), found[order], rtol=1e-5)
    assert np.abs(found - run(x, keys[::-1])).max() > 0.01
    later = x.copy()
    later[:, 1:] = 0.3
    np.testing.assert_array_equal(run(later, keys)[:, 0], found[:, 0])


def test_places_have_features_of_their_own_which_are_none_at_first():
    network = PixelCNN(1, channels=3, depth=2, sides=(9, 9))
    x = jnp.zeros((1, 9, 9, 1))
    params = network.init(jax.random.key(0), x)
    without = PixelCNN(1, channels=3, depth=2)
    layers = {k: v for k, v in params["params"].items() if k != "places"}
    before = jax.jit(without.apply)({"params": layers}, x)
    run = jax.jit(network.apply)
    np.testing.assert_array_equal(run(params, x), before)
    places = params["params"]["places"]
    assert places.shape == (9, 9, 3)
    moved = {"params": {**layers, "places": places.at[4, 5].set(1.0)}}
    changed = np.abs(run(moved, x) - before)[0, ..., 0] > 1e-6
    assert changed[4, 5]
    # Two layers see two rows each further up, and as many columns to either side.
    assert not changed[:4].any()
    assert not changed[:, 0].any()


def test_the_probabilities_of_all_binary_images_of_a_class_sum_to_one():
    network = PixelCNN(1, channels=4, depth=1, classes=2)
    every = np.array(list(itertools.product([0.0, 1.0], repeat=4)), np.float32)
    every = every.reshape(16, 2, 2, 1)
    params, found = random_params(network, (2, 2, 1)), []

    @jax.jit
    def nll(label):
        return bernoulli_nll(network.apply(params, 2 * every - 1, label), every)

    for label in (0, 1, 2):
        p = np.exp(-np.asarray(nll(np.full(16, label)), np.float64))
        assert p.sum() == pytest.approx(1, rel=1e-5)
        assert p.max() > 0.1  # far from uniform
        found.append(p)
    assert np.ptp(found, axis=0).max() > 0.01
    no_class = np.exp(-np.asarray(nll(None), np.float64))  # which is 2
    np.testing.assert_allclose(no_class, p, rtol=1e-5)


def test_the_probabilities_of_a_pixels_levels_sum_to_one_given_those_before():
    k, levels = 3, np.linspace(-1, 1, 256).astype(np.float32)
    network = PixelCNN(logistic_mixture.outputs(1, k), channels=4, depth=1)
    params = random_params(network, (1, 2, 1))
    images = np.stack([np.full(256, 0.2), levels], 1).reshape(256, 1, 2, 1).astype(np.float32)
    found = np.asarray(jax.jit(network.apply)(params, images))
    for pixel in (0, 1):
        np.testing.assert_array_equal(found[0, 0, pixel], found[255, 0, pixel])
        nll = mixture_nll(found[:, :, pixel : pixel + 1], levels.reshape(256, 1, 1, 1))
        assert np.exp(-np.asarray(nll, np.float64)).sum() == pytest.approx(1, rel=1e-5)


def binary(found, z):
    return 2.0 * (z < jax.nn.sigmoid(found)) - 1


def mixed(found, z):
    return logistic_mixture.draw(found, z, 2, 2)


@pytest.mark.parametrize(
    ("pick", "outputs", "numbers", "depth"), [(binary, 1, 1, 2), (mixed, 12, 3, 1)]
)
def test_images_are_those_of_a_loop_with_the_whole_network_for_each_pixel(
    pick, outputs, numbers, depth
):
    sides, channels = (4, 5) if binary is pick else None, max(1, numbers - 1)
    network = PixelCNN(outputs, 4, depth, classes=3, sides=sides)
    params = random_params(network, (4, 5, channels))
    z = np.random.default_rng(4).uniform(size=(6, 4, 5, numbers)).astype(np.float32)
    label = np.array([0, 1, 2, 3, 0, 1])
    run = jax.jit(lambda x: pick(network.apply(params, x, label), z))
    x = np.zeros((6, 4, 5, channels), np.float32)
    for row, column in np.ndindex(4, 5):
        x[:, row, column] = run(x)[:, row, column]
    draw = jax.jit(partial(network.draw, params, pick))
    # Levels of 256: a rounding of the convolutions could move a pixel by one.
    np.testing.assert_allclose(draw(z, label), x, atol=1e-6)
    assert x.std() > 0.3
    # An image comes from its own numbers.
    order = np.array([4, 1, 0, 3, 2, 5])
    np.testing.assert_allclose(draw(z[order], label[order]), x[order], atol=1e-6)


def test_labels_need_classes_and_bfloat16_computes_and_draws_alike():
    network = PixelCNN(1, channels=4, depth=1)
    params = random_params(network, (4, 4, 1))
    x = np.random.default_rng(5).uniform(-1, 1, (2, 4, 4, 1)).astype(np.float32)
    with pytest.raises(ValueError, match="a label needs a network with `classes`"):
        network.apply(params, x, jnp.array([0, 1]))
    low = PixelCNN(1, channels=4, depth=1, dtype=jnp.bfloat16)
    found, expected = (jax.jit(each.apply)(params, x) for each in (low, network))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, atol=0.05 * np.abs(expected).max())
    assert np.abs(found - expected).max() > 0
    drawn = jax.eval_shape(partial(low.draw, params, binary), jnp.zeros((2, 4, 4, 1)))
    assert (drawn.shape, drawn.dtype) == ((2, 4, 4, 1), jnp.float32)
