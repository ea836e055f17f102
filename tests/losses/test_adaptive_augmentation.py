"""Adaptive augmentation: each transformation by given draws, its frequency, and the adaptation."""

from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from scipy.stats import kstest, norm

from genjax.losses import adaptive_augmentation as ada

pytestmark = pytest.mark.heavy

KEY = jax.random.key(0)
MANY = 4000
IMAGES = np.random.default_rng(0).normal(size=(3, 6, 8, 3)).astype(np.float32)


def with_draws(monkeypatch, uniform, normal):
    """Every call draws these numbers."""
    monkeypatch.setattr(
        ada.keys, "uniform", lambda _, shape: jnp.broadcast_to(jnp.float32(uniform), shape)
    )
    monkeypatch.setattr(
        ada.keys, "normal", lambda _, shape: jnp.broadcast_to(jnp.float32(normal), shape)
    )


def rotation(angle):
    """Of the image by an angle, from the transformed to the original places."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])


def shift(x, y):
    return np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1]])


# Columns of the uniform draws; 1 is never below a probability, 0 always.
FLIP, TURN, WHOLE, SCALE, FIRST, ASPECT, SECOND, LAST = (
    *((0, 1), (2, 3), (4, 5, 6), (7,)),
    *((8, 9), (10,), (11, 12), (13,)),
)
NORMAL = (0.5, -0.7, 0.3, -0.4)
THETA = (2 * 0.8 - 1) * np.pi
EACH = {
    "flip": ({0: 0.6, 1: 0}, np.diag([-1, 1, 1])),
    "no flip": ({0: 0.4, 1: 0}, np.eye(3)),
    "turn": ({2: 0.8, 3: 0}, rotation(3 * np.pi / 2)),
    "whole": ({4: 0.95, 5: 0.2, 6: 0}, shift(np.round(0.9 * 2), np.round(-0.6 * 1.5))),
    "scale": ({7: 0}, np.diag([2 ** (-0.2 * 0.5), 2 ** (-0.2 * 0.5), 1])),
    "rotation before": ({8: 0.8, 9: 0}, rotation(THETA)),
    "stretch": ({10: 0}, np.diag([2 ** (0.2 * 0.7), 2 ** (-0.2 * 0.7), 1])),
    "rotation after": ({11: 0.8, 12: 0}, rotation(THETA)),
    "shift": ({13: 0}, shift(0.3 * 2, -0.4 * 1.5)),
}


@pytest.mark.parametrize("name", EACH)
def test_each_geometric_transformation_is_that_of_the_paper(name, monkeypatch):
    columns, expected = EACH[name]
    with_draws(monkeypatch, [columns.get(i, 1) for i in range(14)], NORMAL)
    (found,) = ada.geometry(KEY, 1, 0.5, (12, 16))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_geometric_transformations_follow_one_another_in_the_order_of_the_paper(monkeypatch):
    several = [name for name in EACH if name != "no flip"]
    columns = reduce(lambda a, b: a | b, (EACH[name][0] for name in several))
    with_draws(monkeypatch, [columns[i] for i in range(14)], NORMAL)
    (found,) = ada.geometry(KEY, 1, 0.5, (12, 16))
    np.testing.assert_allclose(
        found, reduce(np.matmul, (EACH[name][1] for name in several)), atol=1e-5
    )


def test_every_transformation_has_the_probability_and_its_distribution():
    p = 0.4
    inverse = np.asarray(ada.geometry(KEY, MANY, p, (32, 32)))

    def share(changed, expected):
        assert abs(changed.mean() - expected) <= 4 * np.sqrt(expected * (1 - expected) / MANY)

    # Shifts by whole pixels, from −4 to 4, are none in an eighth of the width, twice.
    kept = (1 - p / 2) * (1 - 3 * p / 4) * (1 - p + p / 64) * (1 - p) ** 4
    share(np.all(np.abs(inverse - np.eye(3)) < 1e-6, axis=(1, 2)), kept)
    flipped = np.linalg.det(inverse)
    share(flipped < 0, p / 2)
    scales = np.log2(np.abs(flipped)) / 2
    share(np.abs(scales) > 1e-6, p)
    assert kstest(scales[np.abs(scales) > 1e-6], norm(0, 0.2).cdf).pvalue > 1e-3
    # (1 − p_rot)² of all are not rotated: with no stretch such images are turned by 90° alone.
    singular = np.linalg.svd(inverse[:, :2, :2], compute_uv=False)
    stretched = singular[:, 0] / singular[:, 1] > 1 + 1e-4
    share(stretched, p)
    upright = np.abs(inverse[:, 0, 0] * inverse[:, 0, 1]) < 1e-6
    share(upright[~stretched], 1 - p)


def reflected(image):
    height, width = image.shape[:2]
    around = ((height - 1,) * 2, (width - 1,) * 2, (0, 0))
    return np.pad(image.astype(float), around, mode="reflect")


@pytest.mark.heavy
def test_shifts_by_whole_pixels_are_exact_and_smooth_images_turn_without_blur():
    (found,) = ada.warp(IMAGES[:1, :6, :6], jnp.float32(shift(2, -1))[None])
    np.testing.assert_allclose(found, reflected(IMAGES[0, :6, :6])[6:12, 3:9], atol=2e-5)
    y, x = np.meshgrid(np.arange(24), np.arange(24), indexing="ij")
    smooth = np.cos(2 * np.pi * (x / 16 + y / 24)) + np.sin(2 * np.pi * x / 20)
    inverse = np.float32([np.diag([-1, 1, 1]), rotation(np.pi / 2), shift(0.5, 0)])
    turned = ada.warp(np.repeat(np.float32(smooth)[None, :, :, None], 3, axis=0), inverse)[..., 0]
    halfway = np.cos(2 * np.pi * ((x - 0.5) / 16 + y / 24)) + np.sin(2 * np.pi * (x - 0.5) / 20)
    # Linear interpolation in the middle of half pixels: (π/8)² / 4 / 8 of the amplitude.
    inner = (slice(None), slice(6, -6), slice(6, -6))
    expected = np.stack([smooth[:, ::-1], np.rot90(smooth, -1), halfway])
    np.testing.assert_allclose(np.asarray(turned)[inner], expected[inner], atol=1e-2)


@pytest.mark.heavy
def test_a_warp_is_that_of_a_float64_implementation():
    inverse = np.asarray(ada.geometry(jax.random.key(3), 3, 1.0, (6, 8)), float)
    found = ada.warp(IMAGES, jnp.float32(inverse))
    taps = np.array(ada.SYMLET_6)
    centre = np.arange(12) @ taps / taps.sum() - 5
    for image, matrix, ours in zip(IMAGES, inverse, found, strict=True):
        padded = reflected(image)
        size = np.array(padded.shape[:2])
        # Rows 2n − 5 … 2n + 6 of the doubled image get pixel n.
        up = [np.zeros((2 * n + 10, n)) for n in size]
        down = [np.zeros((2 * n + 10, n)) for n in image.shape[:2]]
        for columns, scale in ((up, 2**0.5), (down, 0.5**0.5)):
            for column in columns:
                for n in range(column.shape[1]):
                    column[2 * n : 2 * n + 12, n] = scale * taps
        y, x = np.meshgrid(
            *((np.arange(-5, 2 * n + 5) - centre) / 2 - (n - 1) / 2 for n in image.shape[:2]),
            indexing="ij",
        )
        place = np.einsum("ij,jhw->ihw", matrix, np.stack([x, y, np.ones_like(x)]))
        inner = (slice(5, 5 + 2 * n) for n in size)
        rows, columns = (u[s] for u, s in zip(up, inner, strict=True))
        for channel in range(3):
            doubled = rows @ padded[..., channel] @ columns.T
            at = [2 * place[1 - i] + size[i] - 1 + centre for i in range(2)]
            moved = map_coordinates(doubled, at, order=1, mode="grid-constant")
            expected = down[0].T @ moved @ down[1]
            np.testing.assert_allclose(ours[..., channel], expected, atol=3e-5)


def translate(b):
    return np.block([[np.eye(3), np.full((3, 1), b)], [np.zeros(3), 1]])


AXIS = np.array([1, 1, 1, 0]) / np.sqrt(3)
LUMA = np.outer(AXIS, AXIS)
HUE = (2 * 0.7 - 1) * np.pi
CROSS = np.array([[0, -1, 1, 0], [1, 0, -1, 0], [-1, 1, 0, 0], [0, 0, 0, 0]]) / np.sqrt(3)
SPIN = LUMA + np.cos(HUE) * (np.eye(4) - LUMA) + np.sin(HUE) * CROSS
SPIN[3, 3] = 1
COLOURS = {  # by the homogeneous matrices of the paper's code
    "brightness": ({0: 0}, translate(0.2 * 0.5)),
    "contrast": ({1: 0}, np.diag([*3 * [2 ** (0.5 * -0.7)], 1])),
    "luma flip": ({2: 0.6, 3: 0}, np.eye(4) - 2 * LUMA),
    "hue": ({4: 0.7, 5: 0}, SPIN),
    "saturation": ({6: 0}, LUMA + (np.eye(4) - LUMA) @ np.diag([*3 * [2**0.3], 1])),
    "nothing": ({}, np.eye(4)),
}


@pytest.mark.parametrize("name", [*COLOURS, "all"])
def test_each_change_of_colours_is_that_of_the_paper(name, monkeypatch):
    several = list(COLOURS) if name == "all" else [name]
    columns = reduce(lambda a, b: a | b, (COLOURS[each][0] for each in several))
    with_draws(monkeypatch, [columns.get(i, 1) for i in range(7)], (0.5, -0.7, 0.3))
    matrix = reduce(lambda a, b: b @ a, (COLOURS[each][1] for each in several))
    expected = IMAGES @ matrix[:3, :3].T + matrix[:3, 3]
    np.testing.assert_allclose(ada.recolour(IMAGES, KEY, 0.5), expected, atol=3e-6)
    grey = IMAGES[..., :1]
    row = matrix[:3].mean(0)  # as the paper's code has it
    expected = grey * row[:3].sum() + row[3]
    np.testing.assert_allclose(ada.recolour(grey, KEY, 0.5), expected, atol=3e-6)


def test_changes_of_colours_have_the_probability():
    grey = np.ones((MANY, 1, 1, 1), np.float32)
    changed = np.asarray(ada.recolour(grey, KEY, 0.4))[:, 0, 0, 0]
    for found, expected in (((changed == 1), 0.6 * 0.6 * 0.8), ((changed == -1), 0.6 * 0.6 * 0.2)):
        assert abs(found.mean() - expected) <= 4 * np.sqrt(expected * (1 - expected) / MANY)


@pytest.mark.heavy
def test_augmentation_is_per_example_differentiable_and_off_at_zero():
    keys = jax.random.split(KEY, 3)
    augment = jax.jit(ada.augment)
    plain = augment(IMAGES, keys, 0.9)
    assert np.any(np.abs(plain - IMAGES) > 0.1)
    np.testing.assert_allclose(augment(IMAGES[::-1], keys[::-1], 0.9)[::-1], plain, atol=1e-5)
    np.testing.assert_array_equal(augment(IMAGES, keys, 0.0), IMAGES)
    direction = np.random.default_rng(1).normal(size=IMAGES.shape).astype(np.float32)
    # Affine in the image: a step of 1 has no truncation error.
    _, slope = jax.jvp(lambda x: augment(x, keys, 0.9), (IMAGES,), (direction,))
    np.testing.assert_allclose(augment(IMAGES + direction, keys, 0.9) - plain, slope, atol=1e-4)
    half = ada.augment(jnp.bfloat16(IMAGES), KEY, 0.9)
    assert half.dtype == jnp.bfloat16
    assert ada.augment(IMAGES[..., :1], KEY, 0.9).shape == (3, 6, 8, 1)


def test_the_probability_follows_the_sign_of_the_overfitting():
    state, p = ada.start(), 0.0
    outputs = np.random.default_rng(0).normal(1.0, 1, size=(40, 10)).astype(np.float32)
    outputs[20:] -= 2  # no longer sure
    for i, real in enumerate(outputs):
        state = ada.adapt(state, real, images=100)
        if i % 4 == 3:
            sure = np.sign(outputs[i - 3 : i + 1]).mean()
            p = max(0, p + np.sign(sure - 0.6) * 40 / 100)
        np.testing.assert_allclose(state["probability"], p, atol=1e-6)
    assert state["minibatches"] == 0
    assert float(state["sign"]) == 0
    assert max(p, 0.1) == 0.1


def test_the_defaults_are_those_of_the_paper():
    state = ada.start()
    for _ in range(4):
        assert state["probability"] == 0
        state = ada.adapt(state, jnp.ones(50))
    np.testing.assert_allclose(state["probability"], 4 * 50 / 500_000)
    mixed = jnp.array([1.0] * 79 + [-1.0] * 21)  # 0.58: below the target of 0.6
    for _ in range(4):
        state = ada.adapt(state, mixed)
    assert state["probability"] == 0


@pytest.mark.heavy
def test_the_probability_does_not_depend_on_the_devices():
    real = np.random.default_rng(1).normal(0.9, 1, size=(4, 16)).astype(np.float32)
    whole = shares = ada.start()
    shares = jax.tree.map(lambda x: jnp.stack(8 * [x]), shares)
    over_devices = jax.pmap(lambda s, r: ada.adapt(s, r, images=1000), axis_name="data")
    for minibatch in real:
        whole = ada.adapt(whole, minibatch, images=1000)
        shares = over_devices(shares, minibatch.reshape(8, 2))
    assert whole["probability"] > 0
    for name, value in whole.items():
        np.testing.assert_allclose(shares[name], np.full(8, value), atol=1e-6)


def test_other_arguments_are_refused():
    for images in (IMAGES[0], IMAGES.astype(np.uint8), IMAGES[..., :2]):
        with pytest.raises(ValueError, match="floats"):
            ada.augment(images, KEY, 0.5)
    with pytest.raises(ValueError, match="2 keys for 3"):
        ada.augment(IMAGES, jax.random.split(KEY, 2), 0.5)
    with pytest.raises(ValueError, match="one output per real image"):
        ada.adapt(ada.start(), jnp.ones((3, 1)))
    with pytest.raises(ValueError, match="floats"):
        ada.adapt(ada.start(), jnp.ones(3, int))
