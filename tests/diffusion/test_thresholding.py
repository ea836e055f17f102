"""Static and dynamic thresholding against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import predictions, samplers, schedules, steps, thresholding


def test_static_thresholding_clips_each_element():
    data = jnp.array([[-3.0, 0.2, 5.0]])
    np.testing.assert_allclose(thresholding.static()(data), [[-1, 0.2, 1]])
    np.testing.assert_allclose(thresholding.static(0.0, 2.0)(data), [[0, 0.2, 2]])


@pytest.mark.parametrize("limit", [1.0, 0.5])
def test_dynamic_thresholding_scales_by_the_quantile_of_each_example(limit):
    data = np.random.default_rng(0).standard_normal((3, 4, 4, 2)) * np.array(
        [0.1, 1.0, 5.0]
    ).reshape(3, 1, 1, 1)
    result = jax.jit(thresholding.dynamic(0.9, limit))(data)
    for one, original in zip(result, data, strict=True):
        s = max(np.quantile(np.abs(original), 0.9), limit)
        np.testing.assert_allclose(one, np.clip(original, -s, s) / s * limit, rtol=1e-5)
    assert jnp.abs(result).max() <= limit * (1 + 1e-6)
    np.testing.assert_allclose(result[0], np.clip(data[0], -limit, limit), rtol=1e-6)


def test_dynamic_thresholding_keeps_bfloat16_and_works_in_a_sampler():
    clip = thresholding.dynamic(0.5)
    assert clip(jnp.ones((2, 3), jnp.bfloat16)).dtype == jnp.bfloat16
    x = samplers.ddim(
        lambda z, t: 10 * z,
        jax.random.key(0),
        (2, 3),
        schedule=schedules.RectifiedFlow(),
        target=predictions.data,
        steps=steps.linear(3),
        clip=clip,
    )
    # Half of the elements exceed the median, and so reach the limit.
    assert bool((jnp.sum(jnp.abs(x) > 1 - 1e-6, axis=1) == 2).all())
