"""Consistency in continuous time on Gaussian data, whose trajectories are known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import few_step, schedules, steps
from genjax.losses import times
from genjax.losses.continuous_consistency import continuous_consistency, estimate

pytestmark = pytest.mark.heavy

STD, SCALE = 0.8, 0.5  # of the data, and s
V = (STD / SCALE) ** 2
KEY = jax.random.key(0)
TIMES = times.LogNormal(schedules.Cosine(), mean=0.0, std=1.4)


def angle(t, z):
    return 0.5 * math.pi * t.reshape(-1, *[1] * (z.ndim - 1))


def consistent(z, t):
    """F of the exact consistency function, z √(V / var z_θ)."""
    a = angle(t, z)
    f = z * jnp.sqrt(V / (jnp.cos(a) ** 2 * V + jnp.sin(a) ** 2))
    return (jnp.cos(a) * z - f) / jnp.sin(a)


def velocity(z, t):
    """E[dz/dθ | z]."""
    a = angle(t, z)
    return z * jnp.cos(a) * jnp.sin(a) * (1 - V) / (jnp.cos(a) ** 2 * V + jnp.sin(a) ** 2)


def images(n):
    return STD * jax.random.normal(jax.random.key(7), (n, 2))


def loss(predict, x=images(16), key=KEY, **options):  # noqa: B008
    return continuous_consistency(predict, x, key, **{"times": TIMES, "data_std": SCALE, **options})


def test_distillation_leaves_the_exact_consistency_function_where_it_is():
    assert loss(consistent, teacher=velocity).max() < 1e-7
    for other in (velocity, lambda z, t: 1.1 * consistent(z, t)):
        assert loss(other, teacher=velocity).mean() > 1e-2
    # Before the warm-up it is the velocity that stays.
    assert loss(velocity, teacher=velocity, warm_up=0.0).max() < 1e-7
    assert loss(consistent, teacher=velocity, warm_up=0.0).mean() > 1e-2


def test_the_value_and_the_gradient_are_the_papers():
    def predict(z, t, w=0.7):
        return w * z * jnp.cos(t)[:, None]

    x, t = images(5), jnp.linspace(0.1, 0.9, 5)
    found = loss(predict, x, times=t, warm_up=0.6, constant=0.2)
    a = angle(t, x)
    noise = jax.random.split(KEY, 2)[1]
    eps = jax.random.normal(noise, x.shape)
    z, v = jnp.cos(a) * x / SCALE + jnp.sin(a) * eps, jnp.cos(a) * eps - jnp.sin(a) * x / SCALE
    cos_t, sin_t = jnp.cos(t)[:, None], jnp.sin(t)[:, None]
    change = 0.7 * (v * cos_t - z * sin_t * 2 / math.pi)
    g = -(jnp.cos(a) ** 2) * (predict(z, t) - v)
    g -= 0.6 * jnp.cos(a) * jnp.sin(a) * (z + change)
    g /= jnp.linalg.norm(g, axis=1, keepdims=True) + 0.2
    np.testing.assert_allclose(found, (g**2).sum(1), rtol=1e-4)

    def of(w):
        options = {"times": t, "warm_up": 0.6, "constant": 0.2}
        return loss(lambda z, t: predict(z, t, w), x, **options).sum()

    slope = jax.grad(of)(0.7)
    np.testing.assert_allclose(slope, (-2 * g * z * cos_t).sum(), rtol=1e-4)


@pytest.mark.heavy
def test_training_pulls_the_exact_consistency_function_nowhere_on_average():
    def pull(error):
        """The mean gradient by a factor on F, without the normalisation."""

        def of(w, keys, x):
            # A large constant makes g̃ proportional to g.
            return 1e4 * loss(lambda z, t: w * consistent(z, t), x, keys, constant=1e4).mean()

        x = images(40_000)
        keys = jax.random.split(jax.random.key(1), len(x))
        slopes = jax.jit(jax.vmap(lambda k, x: jax.grad(of)(1 + error, k[None], x[None])))(keys, x)
        return float(slopes.mean()), float(slopes.std() / len(x) ** 0.5)

    mean, noise = pull(0.0)
    assert abs(mean) < 4 * noise
    for error in (-0.3, 0.3):
        mean, noise = pull(error)
        assert mean * error > 0
        assert abs(mean) > 5 * noise


def test_samples_of_the_exact_function_have_the_datas_deviation():
    found = few_step.consistency(
        estimate(consistent), KEY, (20_000, 1), schedule=schedules.Cosine(), steps=steps.linear(1)
    )
    assert SCALE * found.std() == pytest.approx(STD, rel=0.02)
    z = images(3)
    np.testing.assert_array_equal(estimate(lambda z, t: 9 * z)(z, jnp.zeros(3)), z)


def test_where_the_network_is_the_velocity_of_one_image_the_estimate_is_that_image():
    t, x = jnp.array([0.2, 0.5, 0.9]), images(3) / STD
    a = angle(t, x)
    eps = jax.random.normal(KEY, x.shape)
    z = jnp.cos(a) * x + jnp.sin(a) * eps
    found = estimate(lambda *_: jnp.cos(a) * eps - jnp.sin(a) * x)(z, t)
    np.testing.assert_allclose(found, x, atol=1e-6)
