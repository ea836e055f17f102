"""Planted directions are found, and planted correlations are in the entanglement table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from genjax.edit.directions import difference_of_means, linear_probe, orthogonalized
from genjax.edit.effects import effects, entanglement, walk

RANDOM = np.random.default_rng(0)
# Numbers 0 and 1 of a latent go together; number 2 has another scale, number 3 is not used.
MIX = np.array([[1, 0.8, 0, 0], [0, 0.6, 0, 0], [0, 0, 5, 0], [0, 0, 0, 0]])
Z = jnp.float32(RANDOM.normal(size=(2000, 4)) @ MIX)
LABELS = jnp.asarray(Z[:, 0] > 0)
compiled = jax.jit(lambda z, labels, penalty: linear_probe(z, labels, penalty=penalty))


def probe(z, labels, penalty=1.0):  # compiled once for all tests
    return compiled(z, labels, jnp.float32(penalty))


def decode(z):
    return z.reshape(-1, 2, 2, 1)


def measure(x):  # the numbers of the latent are the attributes
    return x.reshape(-1, 4)


def cosine(a, b):
    return jnp.vdot(a, b) / jnp.linalg.norm(a) / jnp.linalg.norm(b)


def test_the_difference_of_means_carries_along_what_is_correlated():
    found = difference_of_means(Z, LABELS)
    # Of normal numbers the means given a sign differ in proportion to the covariances.
    assert cosine(found[:2], jnp.array([1, 0.8])) > 0.999
    means = [np.asarray(Z)[np.asarray(LABELS) == k].mean(0) for k in (1, 0)]
    assert cosine(found, means[0] - means[1]) > 1 - 1e-6


def test_directions_are_as_long_as_the_latents_deviate_along_them():
    for found in (difference_of_means(Z, LABELS), probe(Z, LABELS).direction):
        length = np.linalg.norm(found)
        np.testing.assert_allclose(length, (np.asarray(Z) @ (found / length)).std(), rtol=1e-4)


def test_a_probe_finds_the_planted_direction_alone():
    found = probe(Z, LABELS)
    assert cosine(found.direction, jnp.array([1.0, 0, 0, 0])) > 0.99
    assert found.accuracy > 0.97
    assert cosine(probe(Z, ~LABELS).direction, found.direction) < -0.999


def test_a_probe_is_logistic_regression():
    labels = np.asarray(Z[:, 0] + Z[:, 1] + RANDOM.normal(size=2000) > 0.5)
    z = np.asarray(Z[:, :3])
    standard = (z - z.mean(0)) / z.std(0)
    theirs = LogisticRegression(C=1 / 3.0, tol=1e-8).fit(standard, labels).coef_[0] / z.std(0)
    found = probe(Z, jnp.asarray(labels), penalty=3.0)
    assert cosine(found.direction[:3], theirs) > 1 - 1e-5
    assert jnp.abs(found.direction[3]) < 1e-5
    held_out = []
    for fold in range(5):
        kept = np.arange(2000) % 5 != fold
        model = LogisticRegression(C=1 / 3.0, tol=1e-8).fit(standard[kept], labels[kept])
        held_out.append(model.score(standard[~kept], labels[~kept]))
    np.testing.assert_allclose(found.accuracy, np.mean(held_out), atol=2e-3)


def test_labels_without_a_direction_are_told_by_the_accuracy():
    found = probe(Z, jnp.asarray(RANDOM.random(2000) < 0.3))
    np.testing.assert_allclose(found.chance, 0.7, atol=0.05)
    assert found.accuracy < found.chance + 0.02


def test_labels_that_are_separable_have_a_probe():
    """A Newton step from 0 overshoots where labels are separable and the penalty is small."""
    z = Z.at[:, 2].add(20 * jnp.sign(Z[:, 2]))
    found = probe(z, z[:, 2] > 0, penalty=1e-3)
    assert cosine(found.direction, jnp.eye(4)[2]) > 0.99
    assert found.accuracy == 1


def test_directions_have_the_shape_of_a_latent():
    found = difference_of_means(Z.reshape(-1, 2, 2), LABELS)
    np.testing.assert_allclose(found.ravel(), difference_of_means(Z, LABELS), rtol=1e-6)


def test_orthogonalized_directions_keep_the_other_attributes():
    means = difference_of_means(Z, LABELS)
    other = jnp.array([[0.0, 2.0, 0, 0]])
    left = orthogonalized(means, other)
    np.testing.assert_allclose(left, means.at[1].set(0), atol=1e-5)
    # Twice the same other, and one of no length, are no others more.
    many = jnp.concatenate([other, -3 * other, 0 * other])
    np.testing.assert_allclose(orthogonalized(means, many), left, atol=1e-5)
    np.testing.assert_allclose(
        orthogonalized(means, other + 1), jax.jit(orthogonalized)(means, other + 1), rtol=1e-5
    )
    with pytest.raises(ValueError, match="nothing of it is left"):
        orthogonalized(other[0], jnp.eye(4)[:2])


def test_the_table_has_the_planted_correlation():
    means, normal = difference_of_means(Z, LABELS), probe(Z, LABELS).direction
    alone = orthogonalized(means, jnp.eye(4)[1:3])
    table = jax.jit(lambda d: effects(decode, Z, d, measure, step=0.5))(
        jnp.stack([means, normal, alone])
    )
    # A linear decoder: an attribute changes by its number of the direction, everywhere alike.
    np.testing.assert_allclose(table.change, jnp.stack([means, normal, alone]), atol=1e-5)
    np.testing.assert_allclose(table.error, 0, atol=1e-5)
    np.testing.assert_allclose(table.spread, np.asarray(Z).std(0, ddof=1), rtol=1e-4)
    used = table._replace(change=table.change[:, :2], spread=table.spread[:2])
    spread = entanglement(used, jnp.zeros(3, int))
    np.testing.assert_allclose(spread[0], 0.8, rtol=0.05)
    assert spread[1] < 0.1
    assert spread[2] < 1e-4


def test_effects_have_the_standard_error_of_their_mean():
    def squared(x):
        return measure(x)[:, :1] ** 2  # changes by 2 z per unit of step along number 0

    table = effects(decode, Z, jnp.eye(4)[:1], squared)
    np.testing.assert_allclose(table.change[0, 0], 2 * np.asarray(Z)[:, 0].mean(), atol=1e-4)
    expected = 2 * np.asarray(Z)[:, 0].std(ddof=1) / 2000**0.5
    np.testing.assert_allclose(table.error[0, 0], expected, rtol=1e-4)


def test_a_walk_leaves_images_as_they_are_at_strength_0():
    found = walk(decode, Z[:5], jnp.array([1.0, 0, 0, 1]), jnp.array([-1.0, 0, 2]), measure)
    np.testing.assert_array_equal(found.x[1], decode(Z[:5]))
    np.testing.assert_allclose(
        found.z[2] - Z[:5], jnp.tile(jnp.array([[2.0, 0, 0, 2]]), (5, 1)), atol=1e-5
    )
    np.testing.assert_array_equal(found.measured, found.x.reshape(3, 5, 4))


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match=r"labels must be 0 and 1, and both must occur, not \[1\]"):
        difference_of_means(Z, jnp.ones(2000, int))
    with pytest.raises(ValueError, match=r"not \[0, 1, 2\]"):
        linear_probe(Z, jnp.arange(2000) % 3)
    with pytest.raises(ValueError, match=r"one label per latent, \[2000\]"):
        linear_probe(Z, LABELS[:5])
    with pytest.raises(ValueError, match="2 to 2000 folds, not 1"):
        linear_probe(Z, LABELS, folds=1)
    with pytest.raises(ValueError, match="penalty must be positive"):
        linear_probe(Z, LABELS, penalty=0)
    with pytest.raises(ValueError, match=r"directions must be of shape \(4,\), not \(3,\)"):
        walk(decode, Z, jnp.zeros(3), jnp.zeros(1), measure)
    with pytest.raises(ValueError, match="at least 2"):
        effects(decode, Z[:1], jnp.eye(4), measure)
    with pytest.raises(ValueError, match=r"others as \[k, \(4,\)\]"):
        orthogonalized(jnp.zeros(4), jnp.zeros(4))
    table = effects(decode, Z[:3], jnp.eye(4), measure)
    with pytest.raises(ValueError, match="one target per direction"):
        entanglement(table, jnp.zeros(2, int))
