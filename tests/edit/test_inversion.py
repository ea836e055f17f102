"""Inversion and back, interpolation between real images, and bridges between two models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import predictions, samplers, schedules, steps
from genjax.edit import inversion, translation
from tests.edit import exact

VP, FLOW, EDM = schedules.VP(), schedules.RectifiedFlow(), schedules.EDM()


def images(data, count=16, seed=0):
    rng = np.random.default_rng(seed)
    parts = data.parts() if isinstance(data, exact.Mixture) else [data]
    x = [rng.multivariate_normal(p.mean, p.covariance, count // len(parts)) for p in parts]
    return jnp.asarray(np.concatenate(x).reshape(count, *exact.SHAPE), float)


def settings(schedule, target, n=20):
    grid = steps.karras(n, schedule=schedule, sigma_min=1e-3)
    return {"schedule": schedule, "target": target, "steps": grid}


@pytest.mark.parametrize(
    ("schedule", "target"),
    [
        (VP, predictions.noise),
        (FLOW, predictions.flow),
        (EDM, predictions.data),
        (schedules.Cosine(), predictions.velocity),
    ],
)
def test_inversion_and_back_returns_the_image(schedule, target):
    # Some lie between the modes, where the plain iteration does not converge.
    x, common = images(exact.MODES, 64), settings(schedule, target)
    predict = exact.predict(exact.MODES, schedule, target)

    def both(x):
        noise = inversion.invert(predict, x, **common)
        return noise, samplers.ddim(predict, None, x.shape, start=noise, **common)

    noise, back = jax.jit(both)(x)
    # The bound is 1e-3; DDIM's own inversion is off by 0.5 on this grid.
    assert jnp.abs(back - x).max() < 1e-4
    assert 0.8 < jnp.std(noise / schedule.sigma(jnp.ones(()))) < 1.2


def test_images_that_no_estimate_contains_return_on_a_grid_that_ends_above_0():
    """Data on a line: no x̂ has anything across it, as in the background of a trained network."""
    line = exact.Gaussian(exact.SMOOTH.mean, np.ones((exact.SIZE, exact.SIZE)))
    x = images(line) + 0.05 * jax.random.normal(jax.random.key(1), (16, *exact.SHAPE))
    grid = steps.karras(20, schedule=VP, sigma_min=0.01)
    common = {"schedule": VP, "target": predictions.noise}
    predict = exact.predict(line, VP, predictions.noise)

    def error(grid):
        noise = inversion.invert(predict, x, steps=grid, **common)
        back = samplers.ddim(predict, None, x.shape, steps=grid, start=noise, **common)
        return jnp.abs(back - x).max()

    above, to_data = jax.jit(lambda: (error(grid[:-1]), error(grid)))()
    assert above < 1e-3
    assert to_data > 0.05


def test_fewer_iterations_do_not_return_the_image():
    x, common = images(exact.MODES), settings(VP, predictions.noise)
    predict = exact.predict(exact.MODES, VP, predictions.noise)

    def back(x):
        noise = inversion.invert(predict, x, iterations=2, **common)
        return samplers.ddim(predict, None, x.shape, start=noise, **common)

    assert jnp.abs(jax.jit(back)(x) - x).max() > 1e-2


def test_interpolation_has_exact_ends_and_images_between():
    x, common = images(exact.MODES), settings(FLOW, predictions.flow)
    predict = exact.predict(exact.MODES, FLOW, predictions.flow)
    places = jnp.array([0.0, 0.25, 0.5, 1.0])
    way = jax.jit(lambda a, b: inversion.interpolate(predict, a, b, places, **common))(x[:8], x[8:])
    assert way.shape == (4, 8, *exact.SHAPE)
    np.testing.assert_array_equal(way[0], x[:8])
    np.testing.assert_array_equal(way[3], x[8:])
    # Between two modes an image is of one of them, where the mean of the two ends is of neither.
    middle = exact.flat(way[1:3].reshape(-1, *exact.SHAPE))
    distance = jnp.linalg.norm(middle[:, None] - exact.MODES.means[None], axis=-1).min(1)
    assert distance.max() < 2 * np.sqrt(exact.SIZE * exact.MODES.variance)


def test_a_bridge_and_back_returns_the_image():
    x, common = images(exact.MODES), {"steps": settings(VP, None)["steps"]}
    photos = exact.predict(exact.MODES, VP, predictions.noise)
    drawings = exact.predict(exact.SMOOTH, EDM, predictions.data)
    one = {"schedule": VP, "target": predictions.noise}
    other = {"other_schedule": EDM, "other_target": predictions.data}
    back = {"schedule": EDM, "target": predictions.data}
    forth = {"other_schedule": VP, "other_target": predictions.noise}

    def cycle(x):
        drawn = translation.translate(photos, drawings, x, **one, **other, **common)
        return drawn, translation.translate(drawings, photos, drawn, **back, **forth, **common)

    drawn, x_back = jax.jit(cycle)(x)
    assert jnp.abs(x_back - x).max() < 1e-3
    assert jnp.abs(drawn - x).max() > 0.3


def test_a_bridge_between_gaussians_is_the_monotone_map():
    """In one dimension, and so for white covariances, noise keeps its place in the distribution."""
    wide = exact.Gaussian(exact.WHITE.mean + 1, 4 * np.eye(exact.SIZE))
    x = images(exact.WHITE)
    common = settings(FLOW, predictions.flow, 60)
    y = jax.jit(
        lambda x: translation.translate(
            exact.predict(exact.WHITE, FLOW, predictions.flow),
            exact.predict(wide, FLOW, predictions.flow),
            x,
            **common,
        )
    )(x)
    mean = jnp.asarray(exact.WHITE.mean.reshape(exact.SHAPE))[None]
    # DDIM's error of first order at 60 steps, on both ways.
    np.testing.assert_allclose(y, mean + 1 + 2 * (x - mean), atol=0.25)


def test_a_bridge_of_a_model_to_itself_changes_nothing():
    x, common = images(exact.WHITE), settings(VP, predictions.noise)
    predict = exact.predict(exact.WHITE, VP, predictions.noise)
    other = exact.predict(exact.WHITE, EDM, predictions.data)
    elsewhere = {"other_schedule": EDM, "other_target": predictions.data}

    @jax.jit
    def both(x):
        same = translation.translate(predict, predict, x, **common)
        return same, translation.translate(predict, other, x, **common, **elsewhere)

    same, on_another_schedule = both(x)
    assert jnp.abs(same - x).max() < 1e-4
    # DDIM's errors of first order, at 20 steps of unlike levels; without the scale of the noise
    # all images would be the mean, 1 away.
    assert jnp.sqrt(jnp.mean((on_another_schedule - x) ** 2)) < 0.4


def test_dtypes_shapes_and_errors():
    common = settings(FLOW, predictions.flow, 4)
    seen = []

    def predict(z, t):
        seen.append(z.dtype)
        return jnp.zeros_like(z)

    x = jnp.ones((2, 3), jnp.bfloat16)
    noise = jax.eval_shape(lambda x: inversion.invert(predict, x, **common), x)
    assert noise.dtype == seen[0] == jnp.bfloat16
    with pytest.raises(ValueError, match="one shape"):
        inversion.interpolate(predict, x, x[:1], jnp.zeros(1), **common)
    with pytest.raises(ValueError, match="must be floats"):
        inversion.invert(predict, jnp.ones((2, 3), int), **common)
    with pytest.raises(TypeError, match="iterations"):
        jax.jit(lambda k: inversion.invert(predict, x, iterations=k, **common))(3)
