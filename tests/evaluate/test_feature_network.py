"""Features of batches: order, padding, one program, what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from genjax.evaluate.features.network import FeatureNetwork, pixels


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (11, 4, 3, 2), np.uint8)


def test_pixels_are_the_values_in_0_to_1(images):
    network = pixels((4, 3, 2))
    assert (network.name, network.sha256, network.size) == ("pixels", None, 24)
    found = network([images])
    assert found.dtype == np.float32
    # One rounding of a division in float32.
    np.testing.assert_allclose(found, images.reshape(11, 24) / 255, rtol=1e-7)


@pytest.mark.parametrize("sizes", [[11], [4, 4, 3], [1] * 11, [5, 0, 6], [2, 9]])
def test_batches_do_not_change_the_result(images, sizes):
    parts = np.split(images, np.cumsum(sizes)[:-1])
    done = []
    found = pixels((4, 3, 2))(iter(parts), progress=done.append)
    assert np.array_equal(found, pixels((4, 3, 2))([images]))
    assert done == [n for n, size in zip(np.cumsum(sizes), sizes, strict=True) if size]


def test_smaller_batches_run_the_program_of_the_first(images):
    shapes = []

    def features(x):
        shapes.append(x.shape)
        return x.reshape(x.shape[0], -1).astype(jnp.float32)

    network = FeatureNetwork("raw", None, "none", 24, features, lambda x: features(x) * 2)
    found = network([images[:5], images[5:8], images[8:]])
    assert np.array_equal(found, images.reshape(11, 24))
    assert shapes == [(5, 4, 3, 2)]
    assert np.array_equal(network.all_logits([images[:5], images[5:]]), 2 * found)


def test_weights_of_a_partial_are_arguments_of_one_program(images):
    traced = []

    def scaled(weight, x):
        traced.append(weight)
        return weight * x.reshape(x.shape[0], -1)

    for weight in (2.0, 3.0):
        network = FeatureNetwork("scaled", None, "none", 24, Partial(scaled, jnp.float32(weight)))
        assert np.array_equal(network([images]), weight * images.reshape(11, 24))
    assert len(traced) == 1


def test_what_cannot_be_used_is_refused(images):
    network = pixels((4, 3, 2))
    with pytest.raises(ValueError, match="float64"):
        network([images / 255])
    with pytest.raises(ValueError, match=r"uint8 \(4, 3, 2\)"):
        network(images)
    with pytest.raises(ValueError, match="at least one"):
        network([])
    with pytest.raises(ValueError, match="pixels has no logits"):
        network.all_logits([images])
