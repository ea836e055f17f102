"""Flow matching and stochastic interpolants: formulas, closed forms on Gaussians, equivalences."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import predictions, schedules
from genjax.losses import couplings, diffusion, flow

pytestmark = pytest.mark.heavy

N = 20_000


def network(z, t):
    return jnp.tanh(z) * jnp.cos(3 * t).reshape(t.shape + (1,) * (z.ndim - 1))


@pytest.mark.heavy
def test_flow_matching_is_denoising_of_flow_on_rectified_flow():
    x, t = jax.random.normal(jax.random.key(1), (4, 3, 2)), jnp.array([0.0, 0.3, 0.8, 1.0])
    seen = []

    def predict(z, t):
        seen.append(z)
        return network(z, t)

    loss = flow.flow_matching(predict, x, jax.random.key(0), times=t)
    # The same z gives the noise of the first; where t = 0 there is none to see.
    z, clean, time = np.float64(seen[0]), np.float64(x), np.float64(t)[:, None, None]
    eps = (z[1:] - (1 - time[1:]) * clean[1:]) / time[1:]
    squared = ((eps - clean[1:] - np.asarray(network(seen[0], t))[1:]) ** 2).sum((1, 2))
    np.testing.assert_allclose(loss[1:], squared, rtol=1e-5)
    np.testing.assert_array_equal(seen[0][0], x[0])
    # And the expectations of the two losses are one.
    x = jax.random.normal(jax.random.key(2), (N, 2))
    one = flow.flow_matching(network, x, jax.random.key(3))
    other = diffusion.denoising(
        network, x, jax.random.key(4), schedule=schedules.RectifiedFlow(), target=predictions.flow
    )
    error = 5 * float(jnp.sqrt((one.var() + other.var()) / N))
    assert abs(float(one.mean() - other.mean())) < error


def test_sigma_min_is_the_path_of_lipman_et_al():
    x, s = jax.random.normal(jax.random.key(1), (N, 1)), 0.1
    # At t = 0, z = x + s·ε; predicting 0 costs E|(1 − s)·ε − x|².
    seen = []
    loss = flow.flow_matching(
        lambda z, t: seen.append(z) or 0 * z, x, jax.random.key(0), times=jnp.zeros(N), sigma_min=s
    )
    added = np.asarray(seen[0] - x)
    assert added.std() == pytest.approx(s, rel=5 / np.sqrt(2 * N))
    eps = added / s
    np.testing.assert_allclose(
        loss, (((1 - s) * eps - np.asarray(x)) ** 2)[:, 0], rtol=1e-3, atol=1e-4
    )


def test_ideal_velocity_of_gaussian_data_has_the_conditional_variance():
    mean, std = 0.7, 0.5
    x = mean + std * jax.random.normal(jax.random.key(1), (N, 1))
    t = 0.4
    total = (1 - t) ** 2 * std**2 + t**2

    def ideal(z, times):
        # E[ε − x | z], jointly Gaussian.
        return -mean + (t - (1 - t) * std**2) / total * (z - (1 - t) * mean)

    loss = np.asarray(flow.flow_matching(ideal, x, jax.random.key(0), times=jnp.full(N, t)))
    variance = 1 + std**2 - (t - (1 - t) * std**2) ** 2 / total
    assert loss.mean() == pytest.approx(variance, rel=5 * np.sqrt(2 / N))


@pytest.mark.heavy
def test_optimal_transport_makes_straighter_flows():
    x = jnp.where(jax.random.bernoulli(jax.random.key(0), 0.5, (256, 2)), 2.0, -2.0)
    key, t = jax.random.key(1), jnp.full(256, 0.5)

    def spread(couple):
        # With no network the loss is the squared length of the paths.
        loss = flow.flow_matching(lambda z, t: 0 * z, x, key, times=t, couple=couple)
        return float(loss.mean())

    assert spread(couplings.optimal_transport) < 0.7 * spread(couplings.independent)


INTERPOLANTS = {
    "linear": flow.linear,
    "trigonometric": flow.trigonometric,
    "encoding-decoding": flow.encoding_decoding,
    "brownian": replace(flow.linear, gamma=flow.brownian(2.0)),
}


@pytest.mark.parametrize("name", INTERPOLANTS)
def test_interpolant_starts_at_x_and_ends_at_y(name):
    interpolant = INTERPOLANTS[name]
    x, y = jax.random.normal(jax.random.key(0), (2, 2, 3))
    seen = []
    for end, expected in ((0.0, x), (1.0, y)):
        flow.interpolant_velocity(
            lambda z, t: seen.append(z) or z, x, y, jax.random.key(1),
            interpolant=interpolant, times=jnp.full(2, end),
        )  # fmt: skip
        np.testing.assert_allclose(seen[-1], expected, atol=1e-6)


def in_float64(name, t):
    """α, β, γ in NumPy."""
    return {
        "linear": lambda: (1 - t, t, 0 * t),
        "trigonometric": lambda: (np.cos(np.pi * t / 2), np.sin(np.pi * t / 2), 0 * t),
        "encoding-decoding": lambda: (
            np.cos(np.pi * t) ** 2 * (t < 0.5),
            np.cos(np.pi * t) ** 2 * (t >= 0.5),
            np.sin(np.pi * t) ** 2,
        ),
        "brownian": lambda: (1 - t, t, np.sqrt(2 * t * (1 - t))),
    }[name]()


@pytest.mark.parametrize("name", INTERPOLANTS)
def test_ideal_velocity_and_denoiser_between_gaussians_have_the_conditional_variances(name):
    deviations, time = np.array([0.5, 2.0, 1.0]), 0.3
    scales = np.array(in_float64(name, time))
    slopes = np.array(in_float64(name, time + 1e-6)) - np.array(in_float64(name, time - 1e-6))
    slopes /= 2e-6
    x, y = jax.random.normal(jax.random.key(0), (2, N, 1)) * jnp.array([[[0.5]], [[2.0]]])
    times, total = jnp.full(N, time), (scales**2 * deviations**2).sum()
    arguments = {"interpolant": INTERPOLANTS[name], "times": times}
    for loss, wanted in (
        (flow.interpolant_velocity, slopes),
        (flow.interpolant_denoiser, np.array([0.0, 0.0, 1.0])),
    ):
        # z and what is wanted are both linear in three independent Gaussians.
        covariance = (wanted * scales * deviations**2).sum()
        variance = (wanted**2 * deviations**2).sum() - covariance**2 / total

        def ideal(z, t, gain=covariance / total):
            return gain * z

        sampled = np.asarray(loss(ideal, x, y, jax.random.key(1), **arguments))
        assert sampled.mean() == pytest.approx(variance, rel=5 * np.sqrt(2 / N), abs=1e-6)


def test_invalid_arguments_raise_with_one_line():
    x, key = jnp.zeros((4, 2)), jax.random.key(0)
    with pytest.raises(ValueError, match=r"x has \(4, 2\), y has \(3, 2\)"):
        flow.interpolant_velocity(network, x, x[:3], key)
    with pytest.raises(ValueError, match=r"\(3,\) for x \(4, 2\)"):
        flow.flow_matching(network, x, key, times=jnp.zeros(3))
    with pytest.raises(ValueError, match=r"\(4, 2\), got \(4, 1\)"):
        flow.flow_matching(lambda z, t: z[:, :1], x, key)


@pytest.mark.heavy
def test_a_coupling_takes_data_noise_and_key_and_the_default_is_independent():
    x, t, seen = jax.random.normal(jax.random.key(1), (5, 2)), jnp.full(5, 0.5), []

    def couple(x, eps, key):
        seen.append((x, eps, key))
        return eps

    key = jax.random.split(jax.random.key(0), 5)
    coupled = flow.flow_matching(network, x, key, times=t, couple=couple)
    np.testing.assert_array_equal(coupled, flow.flow_matching(network, x, key, times=t))
    ((data, eps, couple_key),) = seen
    np.testing.assert_array_equal(data, x)
    assert eps.shape == x.shape
    assert couple_key.shape == key.shape
