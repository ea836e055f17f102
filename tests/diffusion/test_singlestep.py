"""DPM-Solver and DPM-Solver++ of several stages against the papers in NumPy, and their orders."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import predictions, samplers, sampling_loop, schedules, singlestep, steps

pytestmark = pytest.mark.heavy
slow = functools.partial(pytest.param, marks=pytest.mark.slow)
MEAN, VARIANCE = 0.7, 0.3
VP = schedules.VP()


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def denoise(z, alpha, sigma):
    y = z / (alpha**2 + sigma**2) ** 0.5
    return 0.8 * y * alpha - 0.3 * y * y * alpha / (1 + y * y) + 0.1


def run(sampler, times, start, denoise=denoise, schedule=VP, **options):
    def predict(z, t):
        return denoise(z, schedule.alpha(t[0]), schedule.sigma(t[0]))

    return jax.jit(
        lambda start: sampler(
            predict,
            None,
            start.shape,
            schedule=schedule,
            target=predictions.data,
            steps=times,
            start=start,
            **options,
        )
    )(start)


def at(ell):
    """α and σ of a half log-SNR, where α² + σ² = 1."""
    return (1 + np.exp(-2 * ell)) ** -0.5, (1 + np.exp(2 * ell)) ** -0.5


def first_order(z, ell, to, data):
    """The exact step for a constant x̂: algorithm 1 of DPM-Solver++ with one stage."""
    (_, sigma), (alpha_to, sigma_to) = at(ell), at(to)
    return sigma_to / sigma * z + alpha_to * (1 - np.exp(ell - to)) * data


def noise_at(z, ell):
    alpha, sigma = at(ell)
    return (z - alpha * denoise(z, alpha, sigma)) / sigma


def solver_2(z, ell, to):
    """DPM-Solver-2 of arXiv:2206.00927 with r₁ = 1/2, in ε̂."""
    (alpha, _), (alpha_to, sigma_to), h = at(ell), at(to), to - ell
    alpha_m, sigma_m = at(ell + h / 2)
    middle = alpha_m / alpha * z - sigma_m * np.expm1(h / 2) * noise_at(z, ell)
    return alpha_to / alpha * z - sigma_to * np.expm1(h) * noise_at(middle, ell + h / 2)


def solver_3(z, ell, to):
    """DPM-Solver-3 of arXiv:2206.00927 with r₁ = 1/3 and r₂ = 2/3."""
    (alpha, _), (alpha_to, sigma_to), h = at(ell), at(to), to - ell
    noise, one, two = noise_at(z, ell), ell + h / 3, ell + 2 * h / 3
    (alpha_1, sigma_1), (alpha_2, sigma_2) = at(one), at(two)
    u1 = alpha_1 / alpha * z - sigma_1 * np.expm1(h / 3) * noise
    d1 = noise_at(u1, one) - noise
    u2 = alpha_2 / alpha * z - sigma_2 * np.expm1(2 * h / 3) * noise
    u2 = u2 - sigma_2 * 2 * (np.expm1(2 * h / 3) / (2 * h / 3) - 1) * d1
    d2 = noise_at(u2, two) - noise
    z = alpha_to / alpha * z - sigma_to * np.expm1(h) * noise
    return z - sigma_to / (2 / 3) * (np.expm1(h) / h - 1) * d2


def solver_2s(z, ell, to):
    """DPM-Solver++(2S), algorithm 1 of arXiv:2211.01095 with r = 1/2."""
    middle = (ell + to) / 2
    half = first_order(z, ell, middle, denoise(z, *at(ell)))
    return first_order(z, ell, to, denoise(half, *at(middle)))


def ancestral(ell, to, eta):
    """(the ℓ to go to first, the deviation of the noise that leads back), as σ/α goes in DDIM."""
    up = eta * np.sqrt(np.exp(-2 * to) * (1 - np.exp(2 * (ell - to))))
    return -np.log(np.exp(-2 * to) - up**2) / 2, up


def back(z, to, down, up, drawn):
    """From the level `down`, which has the α of its own, to `to`."""
    alpha = at(to)[0]
    return alpha * (z / at(down)[0] + up * drawn)


SOLVERS = {
    "dpm_solver 2": (functools.partial(singlestep.dpm_solver, order=2), solver_2, 2),
    "dpm_solver 3": (functools.partial(singlestep.dpm_solver, order=3), solver_3, 3),
    "2s": (singlestep.dpm_solver_2s, solver_2s, 2),
}


@pytest.mark.parametrize("eta", [0.0, 0.8])
@pytest.mark.parametrize("name", SOLVERS)
def test_the_ancestral_steps_are_the_papers_solvers_and_noise(monkeypatch, name, eta):
    sampler, solver, count = SOLVERS[name]
    table = np.random.default_rng(0).standard_normal((32, 2, 3))
    monkeypatch.setattr(sampling_loop, "_normal", lambda key, i, *_: jnp.asarray(table)[i])
    times = steps.linear(6, 0.95, 0.1)
    ells = np.array(VP.log_snr(times)) / 2
    z = at(ells[0])[1] * table[0]
    result = run(sampler, times, jnp.asarray(z), eta=eta)
    for i in range(6):
        down, up = ancestral(ells[i], ells[i + 1], eta)
        z = back(solver(z, ells[i], down), ells[i + 1], down, up, table[count * (i + 1)])
    np.testing.assert_allclose(result, z, rtol=1e-9)


def test_the_sde_solver_draws_at_the_middle_a_part_of_the_noise_at_the_end(monkeypatch):
    table = np.random.default_rng(0).standard_normal((32, 2, 3))
    monkeypatch.setattr(sampling_loop, "_normal", lambda key, i, *_: jnp.asarray(table)[i])
    times, eta = steps.linear(6, 0.95, 0.1), 0.9
    ells = np.array(VP.log_snr(times)) / 2
    z = at(ells[0])[1] * table[0]
    result = run(singlestep.dpm_solver_sde, times, jnp.asarray(z), eta=eta)
    for i in range(6):
        ell, to = ells[i], ells[i + 1]
        middle = (ell + to) / 2
        first, second = table[2 * i + 1], table[2 * i + 2]
        down, up = ancestral(ell, middle, eta)
        half = first_order(z, ell, down, denoise(z, *at(ell)))
        half = back(half, middle, down, up, first)
        # Increments of a Brownian motion in σ/α, from t to m and from t to s.
        part = (np.exp(-ell) - np.exp(-middle)) / (np.exp(-ell) - np.exp(-to))
        drawn = np.sqrt(part) * first + np.sqrt(1 - part) * second
        down, up = ancestral(ell, to, eta)
        z = first_order(z, ell, down, denoise(half, *at(middle)))
        z = back(z, to, down, up, drawn)
    np.testing.assert_allclose(result, z, rtol=1e-9)


def test_without_noise_the_sde_solver_is_2s():
    start = jnp.linspace(-2.0, 2.0, 6).reshape(2, 3)
    one, other = (
        run(s, steps.linear(5), start, eta=0.0)
        for s in (singlestep.dpm_solver_sde, singlestep.dpm_solver_2s)
    )
    np.testing.assert_allclose(one, other, rtol=1e-12)


def test_single_stages_are_ddims_and_are_not_evaluated_twice():
    # From α = 0 and to σ = 0 the middle lies infinitely far away.
    calls = []
    times, schedule = jnp.array([1.0, 0.5, 0.0]), schedules.RectifiedFlow()
    start = jnp.linspace(-2.0, 2.0, 6).reshape(2, 3)

    def predict(z, t):
        jax.debug.callback(lambda t: calls.append(float(t)), t[0])
        return denoise(z, 1 - t[0], t[0])

    def path(sampler, **more):
        return sampler(
            predict,
            jax.random.key(0),
            (2, 3),
            schedule=schedule,
            target=predictions.data,
            steps=times,
            start=start,
            eta=1.0,
            trajectory=True,
            **more,
        )[1]

    solvers = singlestep.dpm_solver, singlestep.dpm_solver_2s, singlestep.dpm_solver_sde
    ddim, *others = jax.jit(lambda: [path(s) for s in (samplers.ddim, *solvers)])()
    jax.effects_barrier()
    assert sorted(calls) == [0.5] * 4 + [1.0] * 4
    for other in others:
        np.testing.assert_allclose(other[1], ddim[1], rtol=1e-12)
        np.testing.assert_allclose(other[2], denoise(other[1], 0.5, 0.5), rtol=1e-12)


@pytest.mark.parametrize(
    ("sampler", "order", "draws", "eta"),
    [
        slow(functools.partial(singlestep.dpm_solver, order=2), 2, 2, 1.0),
        slow(functools.partial(singlestep.dpm_solver, order=3), 3, 3, 0.0),
        (functools.partial(singlestep.dpm_solver, order=3), 3, 3, 1.0),
        slow(singlestep.dpm_solver_2s, 2, 2, 0.0),
        slow(singlestep.dpm_solver_2s, 2, 2, 1.0),
        (singlestep.dpm_solver_sde, 2, 2, 1.0),
    ],
)
def test_mean_is_exact_and_variance_converges_at_the_order(monkeypatch, sampler, order, draws, eta):
    def ideal(z, alpha, sigma):
        return MEAN + alpha * VARIANCE / (alpha**2 * VARIANCE + sigma**2) * (z - alpha * MEAN)

    # Affine in start and noise: example i receives unit noise in draw i − 1 alone, 0 receives none.
    def unit(key, index, shape, dtype):
        return (jnp.arange(shape[0])[:, None] == index + 1).astype(dtype)

    monkeypatch.setattr(sampling_loop, "_normal", unit)
    errors = []
    for n in (32, 64):
        times = steps.linear(n, 0.9, 0.2)
        alpha, sigma = VP.alpha(times), VP.sigma(times)
        variance = alpha**2 * VARIANCE + sigma**2
        size = draws * n + 2 if eta else 2
        start = alpha[0] * MEAN + jnp.sqrt(variance[0]) * jnp.eye(size, 1, -1)
        x = run(sampler, times, start, ideal, eta=eta)[:, 0]
        assert abs(x[0] - alpha[-1] * MEAN) < 1e-12
        errors.append(float(jnp.sum((x[1:] - x[0]) ** 2) / variance[-1] - 1))
    # Measured slopes lie within .06 of the order.
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)
    assert abs(errors[1]) < 0.03**order


@pytest.mark.parametrize("h", [1e-6, 0.1, 0.999, 1.001, 5.0])
def test_phi_is_the_series(h):
    series = sum(h ** (k - 1) / math.factorial(k) for k in range(2, 60))
    assert float(singlestep.phi(jnp.array(h))) == pytest.approx(series, rel=1e-12)


def test_an_unknown_order_raises():
    with pytest.raises(ValueError, match="order must be 2 or 3, not 1"):
        run(singlestep.dpm_solver, steps.linear(4), jnp.ones((1, 2)), order=1)
