"""SDEdit at both ends of its strength and at its moments between."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import predictions, samplers, schedules, steps
from genjax.edit import sdedit
from tests.edit import exact

FLOW = schedules.RectifiedFlow()
COMMON = {"schedule": FLOW, "target": predictions.flow, "steps": steps.linear(20)}
PREDICT = exact.predict(exact.WHITE, FLOW, predictions.flow)


def edit(x, key=None, **options):
    key = jax.random.key(0) if key is None else key
    return sdedit.sdedit(PREDICT, key, x, **{**COMMON, **options})


def test_strength_0_returns_the_input():
    x = jax.random.normal(jax.random.key(1), (2, *exact.SHAPE))
    np.testing.assert_array_equal(edit(x, strength=0.0), x)


def test_the_edit_keeps_the_share_of_the_input_that_its_noise_leaves():
    x = jnp.full((4096, *exact.SHAPE), 3.0)
    edited = exact.flat(jax.jit(lambda x: edit(x, strength=0.4, steps=steps.linear(100)))(x))
    # Of x = N(m, I) and z = 0.6 x₀ + 0.4 ε: E[x | z] = m + 0.6 (z − 0.6 m)/(0.6² + 0.4²).
    m, total = exact.WHITE.mean, 0.6**2 + 0.4**2
    np.testing.assert_allclose(edited.mean(0), m + 0.6 * (1.8 - 0.6 * m) / total, atol=0.05)
    # The posterior's variance and that of the noise: 0.4²/total + (0.6·0.4/total)².
    right = np.sqrt(0.16 / total + (0.24 / total) ** 2)
    np.testing.assert_allclose(edited.std(0), right, rtol=0.05)


def test_an_example_depends_on_its_own_key_alone():
    keys = jax.random.split(jax.random.key(2), 3)
    x = jax.random.normal(jax.random.key(3), (3, *exact.SHAPE))
    edited = jax.jit(lambda keys: edit(x, keys, sampler=samplers.ddim))
    one, other = edited(keys), edited(keys[jnp.array([0, 2, 1])])
    np.testing.assert_array_equal(one[0], other[0])
    assert jnp.abs(one[1:] - other[1:]).min() > 0


def test_the_input_sets_the_dtype():
    x = jnp.zeros((2, *exact.SHAPE), jnp.bfloat16)
    assert jax.eval_shape(edit, x).dtype == jnp.bfloat16


def test_wrong_strengths_raise():
    x = jnp.zeros((2, *exact.SHAPE))
    with pytest.raises(ValueError, match=r"strength must be in 0..1, not 1.5"):
        edit(x, strength=1.5)
    with pytest.raises(TypeError, match="strength"):
        jax.jit(lambda s: edit(x, strength=s))(0.5)
    with pytest.raises(ValueError, match="must be floats"):
        edit(jnp.zeros((2, *exact.SHAPE), int))
