"""MeanFlow on a Gaussian's known flow, against finite differences, and as flow matching."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genjax.losses import flow, meanflow

STD = 0.6


def deviation(t):
    return jnp.sqrt((1 - t) ** 2 * STD**2 + t**2)


def velocity(z, t, _):
    """E[ε − x | z] for x ~ N(0, STD²): z·d log deviation / dt."""
    return ((t - (1 - t) * STD**2) / deviation(t) ** 2)[:, None] * z


def average(z, r, t):
    """(z_t − z_r)/(t − r), z_r = z_t·deviation(r)/deviation(t); the velocity if r = t."""
    # (1 − d_r/d_t)/(t − r) = (t + r − (2 − t − r)·STD²)/(d_t·(d_t + d_r)), without a 0/0.
    gain = (t + r - (2 - t - r) * STD**2) / (deviation(t) * (deviation(t) + deviation(r)))
    return gain[:, None] * z


def network(z, r, t):
    return jnp.tanh(z * (1 + r[:, None])) * jnp.cos(3 * t)[:, None]


@pytest.fixture(scope="module")
def x():
    return STD * jax.random.normal(jax.random.key(0), (64, 2))


R = jnp.linspace(0.0, 0.5, 64)
T = jnp.linspace(0.5, 1.0, 64)


@pytest.mark.heavy
def test_the_exact_average_velocity_has_zero_loss_and_another_has_not(x):
    arguments = {"times": (R, T), "guide": velocity, "power": 0.0}
    loss = meanflow.meanflow(average, x, jax.random.key(1), **arguments)
    # Velocities of order 3, rounded at 1e-7.
    assert float(loss.max()) < 1e-10
    wrong = meanflow.meanflow(lambda z, r, t: velocity(z, t, 0), x, jax.random.key(1), **arguments)
    assert float(wrong.mean()) > 1e-3


def test_one_step_with_the_average_velocity_is_a_sample():
    eps = jax.random.normal(jax.random.key(2), (5, 2))
    zero, one = jnp.zeros(5), jnp.ones(5)
    np.testing.assert_allclose(eps - average(eps, zero, one), STD * eps, rtol=1e-5)


@pytest.mark.heavy
def test_average_velocity_is_a_stationary_point_of_the_unguided_loss():
    # With v = ε − x instead of its mean the gradient vanishes only in expectation.
    n = 40_000
    x = STD * jax.random.normal(jax.random.key(0), (n, 1))
    r, t = jnp.full(n, 0.2), jnp.full(n, 0.7)

    def each(scale):
        return meanflow.meanflow(
            lambda z, r, t: scale * average(z, r, t), x, jax.random.key(1), times=(r, t), power=0.0
        )

    gradient = np.asarray(jax.jit(lambda: jax.jvp(each, (1.0,), (1.0,))[1])())
    # The stopped target does not move with the scale: the derivative is 2·Δ·u alone.
    assert abs(gradient.mean()) < 5 * gradient.std() / np.sqrt(n)
    wrong = np.asarray(jax.jit(lambda: jax.jvp(each, (1.3,), (1.0,))[1])())
    assert abs(wrong.mean()) > 10 * wrong.std() / np.sqrt(n)


def test_value_and_gradient_match_the_paper_by_float64_differences(x):
    seen = []

    def predict(z, r, t, scale=1.0):
        seen.append(z)
        return network(z, r, scale * t)

    def loss(scale):
        return meanflow.meanflow(
            lambda z, r, t: predict(z, r, t, scale), x, jax.random.key(1), times=(R, T), power=0.75
        )

    @jax.jit
    def value_gradient_and_input(scale):
        seen.clear()
        value, pull = jax.vjp(loss, scale)
        return value, pull(jnp.ones(64)), z_of()

    def z_of():
        calls = []
        meanflow.meanflow(
            lambda z, r, t: calls.append(jax.lax.stop_gradient(z)) or 0 * z, x, jax.random.key(1),
            times=(jnp.zeros(64), jnp.zeros(64)), guide=lambda z, t, v: calls.append(v) or v,
        )  # fmt: skip
        return calls[0]

    value, (gradient,), v = value_gradient_and_input(1.0)
    r, t, v, clean = (np.float64(u) for u in (R, T, v, x))
    eps = v + clean
    z = (1 - t)[:, None] * clean + t[:, None] * eps

    def u(z, t, scale=1.0):
        return np.tanh(z * (1 + r[:, None])) * np.cos(3 * scale * t)[:, None]

    width = 1e-5
    change = (u(z + width * v, t + width) - u(z - width * v, t - width)) / (2 * width)
    missed = u(z, t) - (v - (t - r)[:, None] * change)
    squared = (missed**2).sum(1)
    weight = (squared + 1e-3) ** -0.75
    np.testing.assert_allclose(value, weight * squared, rtol=1e-4)
    slope = (u(z, t, 1 + width) - u(z, t, 1 - width)) / (2 * width)
    np.testing.assert_allclose(gradient, (2 * weight[:, None] * missed * slope).sum(), rtol=1e-3)


@pytest.mark.heavy
def test_equal_times_are_flow_matching(x):
    n = 20_000
    x = STD * jax.random.normal(jax.random.key(0), (n, 1))
    t = jnp.full(n, 0.6)
    one = meanflow.meanflow(network, x, jax.random.key(1), times=(t, t), power=0.0)
    other = flow.flow_matching(lambda z, t: network(z, t, t), x, jax.random.key(2), times=t)
    error = 5 * float(jnp.sqrt((one.var() + other.var()) / n))
    assert abs(float(one.mean() - other.mean())) < error


@pytest.mark.parametrize("keys", ["one key", "a key per example"])
def test_pairs_are_ordered_logit_normals_mostly_equal(keys):
    n = 20_000
    key = jax.random.key(3)
    keys = key if keys == "one key" else jax.random.split(key, n)
    r, t = (np.asarray(v) for v in meanflow.logit_normal_pairs(-0.4, 1.0, 0.25)(keys, n))
    assert (r <= t).all()
    distinct = r < t
    assert distinct.mean() == pytest.approx(0.25, abs=5 * np.sqrt(0.25 * 0.75 / n))
    # Lesser and greater of two: together they are the draws themselves.
    both = np.concatenate([r[distinct], t[distinct]])
    logits = np.log(both) - np.log1p(-both)
    assert stats.kstest(logits, stats.norm(-0.4, 1).cdf).pvalue > 1e-3


def test_invalid_arguments_raise_with_one_line(x):
    with pytest.raises(ValueError, match=r"\(64,\), \(3,\) for x \(64, 2\)"):
        meanflow.meanflow(network, x, jax.random.key(0), times=(R, jnp.ones(3)))
    with pytest.raises(ValueError, match=r"\(64, 2\), got \(64, 1\)"):
        meanflow.meanflow(lambda z, r, t: z[:, :1], x, jax.random.key(0), times=(R, T))
