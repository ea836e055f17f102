"""EDM's augmentation: each step by given draws, its labels, its frequency, and what stays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kstest, norm

from genjax.losses import adaptive_augmentation as ada

pytestmark = pytest.mark.heavy

KEY = jax.random.key(0)
SIZE = (12, 16)
IMAGES = np.random.default_rng(0).normal(size=(2000, *SIZE, 1)).astype(np.float32)
A, B, C, D = 0.5, -0.7, 0.3, -0.4  # the normal draws
TURN, AXIS = 0.6 * np.pi, -0.2 * np.pi  # of the uniform draws 0.8 and 0.4


def rotation(angle):
    """From places in the transformed image to those in the original, rows downwards."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def stretching(axis):
    s = 2 ** (0.2 * B)
    return rotation(-axis) @ np.diag([1 / s, s, 1]) @ rotation(axis)


# Columns of the uniform draws; 1 is never below a probability, 0 always.
MIRROR, UPSIDE, SCALE, ROTATE, STRETCH, MOVE = 0, (1, 2), 3, (4, 5), 6, 9
EACH = {
    "none": ({}, np.eye(3), [0] * 9),
    "scale": ({3: 0}, np.diag([2 ** (-0.2 * A)] * 2 + [1]), {2: A}),
    "turn": ({4: 0.8, 5: 0}, rotation(TURN), {3: np.cos(TURN) - 1, 4: np.sin(TURN)}),
    "stretch": ({6: 0, 7: 0}, stretching(0), {5: B}),
    "stretch along": (
        {6: 0, 7: 0.5, 8: 0.4},
        stretching(AXIS),
        {5: B * np.cos(AXIS), 6: B * np.sin(AXIS)},
    ),
    "move": (
        {9: 0},
        np.array([[1, 0, -C * 16 / 8], [0, 1, -D * 12 / 8], [0, 0, 1]]),
        {7: C, 8: D},
    ),
}


def drawn(monkeypatch, columns, images):
    """The images handed to the warp, its matrix and the labels, by these uniform draws."""
    uniform = [columns.get(i, 0 if i in (0, 7) else 1) for i in range(10)]
    for name, draws in (("uniform", uniform), ("normal", (A, B, C, D))):
        value = jnp.float32(draws)
        monkeypatch.setattr(
            ada.keys, name, lambda _, shape, value=value: jnp.broadcast_to(value, shape)
        )
    seen = {}
    monkeypatch.setattr(ada, "warp", lambda images, inverse: seen.update(warp=(images, inverse)))
    _, labels = ada.augment_with_labels(images, KEY, 0.12)
    return *(x[0] for x in seen["warp"]), labels[0]


@pytest.mark.parametrize("name", EACH)
def test_each_step_is_that_of_the_paper_and_has_its_labels(name, monkeypatch):
    columns, expected, labels = EACH[name]
    images, inverse, found = drawn(monkeypatch, columns, IMAGES[:1])
    np.testing.assert_array_equal(images, IMAGES[0])
    np.testing.assert_allclose(inverse, expected, atol=1e-6)
    wanted = [labels.get(i, 0) for i in range(9)] if isinstance(labels, dict) else labels
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_steps_follow_one_another_in_the_order_of_the_paper(monkeypatch):
    columns = EACH["scale"][0] | EACH["turn"][0] | EACH["stretch along"][0] | EACH["move"][0]
    _, inverse, _ = drawn(monkeypatch, columns, IMAGES[:1])
    order = ("scale", "turn", "stretch along", "move")
    expected = np.linalg.multi_dot([EACH[name][1] for name in order])
    np.testing.assert_allclose(inverse, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("columns", "flip", "label"),
    [
        ({0: 0.5}, np.s_[:, ::-1], 0),
        ({1: 0.5, 2: 0}, np.s_[::-1], 1),
        ({1: 0.4, 2: 0}, np.s_[:], None),
    ],
)
def test_flips_are_exact(columns, flip, label, monkeypatch):
    images, inverse, labels = drawn(monkeypatch, columns, IMAGES[:1])
    np.testing.assert_array_equal(images, IMAGES[0][flip])
    np.testing.assert_array_equal(inverse, np.eye(3))
    np.testing.assert_array_equal(labels, [float(i == label) for i in range(9)])


def test_every_step_has_the_probability_and_its_distribution(monkeypatch):
    p, n = 0.4, len(IMAGES)
    monkeypatch.setattr(ada, "warp", lambda images, inverse: images)
    _, labels = ada.augment_with_labels(IMAGES, KEY, p)
    labels = np.asarray(labels)
    for columns, expected in (([0], 0.5), ([1], p / 2), ([2], p), ([3], p), ([5], p), ([7, 8], p)):
        share = np.any(labels[:, columns] != 0, axis=1).mean()
        assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / n), columns
    for values in (labels[:, 2], labels[:, 7], labels[:, 8]):
        assert kstest(values[values != 0], norm.cdf).pvalue > 1e-3
    assert abs((labels[:, 6] != 0).mean() - p / 2) < 4 * np.sqrt(p / n)


@pytest.mark.heavy
def test_images_that_are_only_flipped_keep_their_bits_and_keys_are_per_image():
    each, some = jax.random.split(KEY, 40), IMAGES[:40]
    options = {"xla_backend_optimization_level": 0}
    augment = jax.jit(ada.augment_with_labels, compiler_options=options)
    found, labels = augment(some, each, 0.12)
    kept = np.all(np.asarray(labels)[:, 2:] == 0, axis=1)
    assert 10 < kept.sum() < 40
    for i in np.flatnonzero(kept):
        expected = some[i][:, ::-1] if labels[i, 0] else some[i]
        expected = expected[::-1] if labels[i, 1] else expected
        np.testing.assert_array_equal(found[i], expected)
    for i in np.flatnonzero(~kept):
        assert np.abs(found[i] - some[i]).max() > 1e-3
    turned = np.arange(40)[::-1].copy()
    again, others = augment(some[turned], each[turned], 0.12)
    np.testing.assert_array_equal(again[turned], found)
    np.testing.assert_array_equal(others[turned], labels)


def test_what_is_no_batch_of_images_is_refused():
    with pytest.raises(ValueError, match="give a batch"):
        ada.augment_with_labels(IMAGES[0], KEY, 0.1)
