"""DPM-Solver++ and UniPC against the papers' formulas in NumPy, and their orders."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import multistep, predictions, sampling_loop, schedules, steps

pytestmark = pytest.mark.heavy


def denoise(z, alpha, sigma, xp=jnp):
    """E[x | z] of the mixture of N(−1, .2²) and N(.8, .5²) with weights .3 and .7."""
    logs, centres = [], []
    for weight, mean, variance in [(0.3, -1.0, 0.04), (0.7, 0.8, 0.25)]:
        total = alpha**2 * variance + sigma**2
        logs.append(xp.log(weight / xp.sqrt(total)) - (z - alpha * mean) ** 2 / (2 * total))
        centres.append(mean + alpha * variance / total * (z - alpha * mean))
    share = 1 / (1 + xp.exp(logs[1] - logs[0]))
    return share * centres[0] + (1 - share) * centres[1]


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def run(sampler, schedule, times, shape=(2, 3), start=None, predict=None, **options):
    def ideal(z, t):
        return denoise(z, schedule.alpha(t[0]), schedule.sigma(t[0]))

    def sample(start):
        return sampler(
            predict or ideal,
            None,
            shape,
            schedule=schedule,
            target=predictions.data,
            steps=times,
            start=start,
            **options,
        )

    return jax.jit(sample)(start)


def levels(schedule, times):
    """α, σ and the half log-SNR at every time, with clean data at the last."""
    alpha, sigma = np.array(schedule.alpha(times)), np.array(schedule.sigma(times))
    alpha[-1], sigma[-1] = 1, 0
    with np.errstate(divide="ignore"):
        return alpha, sigma, np.log(alpha / sigma)


@pytest.mark.parametrize("eta", [0, 1])
@pytest.mark.parametrize("schedule", [schedules.Cosine(), schedules.EDM(sigma_max=10.0)])
def test_dpm_solver_2m_is_algorithm_2_and_its_sde(x64, monkeypatch, schedule, eta):
    table = np.random.default_rng(0).standard_normal((16, 2, 3))
    monkeypatch.setattr(
        sampling_loop, "_normal", lambda key, index, shape, dtype: jnp.asarray(table)[index]
    )
    times = steps.linear(8, 0.95)
    result = run(multistep.dpm_solver_2m, schedule, times, eta=eta)

    alpha, sigma, ell = levels(schedule, times)
    x, before, h = sigma[0] * table[0], None, np.diff(ell)
    for i in range(8):
        data = mixed = denoise(x, alpha[i], sigma[i], np)
        if 0 < i < 7:
            r = h[i - 1] / h[i]
            mixed = (1 + 1 / (2 * r)) * data - 1 / (2 * r) * before
        if eta:
            x = sigma[i + 1] / sigma[i] * np.exp(-h[i]) * x
            x = x + alpha[i + 1] * (1 - np.exp(-2 * h[i])) * mixed
            x = x + sigma[i + 1] * np.sqrt(1 - np.exp(-2 * h[i])) * table[i + 1]
        else:
            x = sigma[i + 1] / sigma[i] * x - alpha[i + 1] * (np.exp(-h[i]) - 1) * mixed
        before = data
    np.testing.assert_allclose(result, x, rtol=1e-9)


@pytest.mark.parametrize("eta", [0, 1])
def test_dpm_solver_3m_is_the_authors_third_order_step(x64, monkeypatch, eta):
    schedule = schedules.Cosine()
    table = np.random.default_rng(0).standard_normal((16, 2, 3))
    monkeypatch.setattr(
        sampling_loop, "_normal", lambda key, index, shape, dtype: jnp.asarray(table)[index]
    )
    times = steps.linear(8, 0.95)
    result = run(multistep.dpm_solver_3m, schedule, times, eta=eta)

    alpha, sigma, ell = levels(schedule, times)
    x, past, h = sigma[0] * table[0], [], np.diff(ell)
    for i in range(7):
        past.append(denoise(x, alpha[i], sigma[i], np))
        width = (1 + eta) * h[i]
        phi = 1 - (1 - np.exp(-width)) / width
        slope, bend = 0, 0
        if i:
            slope = d = (past[i] - past[i - 1]) * h[i] / h[i - 1]
        if i > 1:
            before = (past[i - 1] - past[i - 2]) * h[i] / h[i - 2]
            slope = d + h[i - 1] / (h[i - 1] + h[i - 2]) * (d - before)
            bend = h[i] / (h[i - 1] + h[i - 2]) * (d - before)
        moved = (1 - np.exp(-width)) * past[i] + phi * slope - (phi / width - 0.5) * bend
        x = sigma[i + 1] / sigma[i] * np.exp(-eta * h[i]) * x + alpha[i + 1] * moved
        x = x + sigma[i + 1] * np.sqrt(1 - np.exp(-2 * eta * h[i])) * table[i + 1]
    np.testing.assert_allclose(result, denoise(x, alpha[7], sigma[7], np), rtol=1e-9)


def test_a_traced_eta_of_0_draws_nothing():
    # The last step has h = ∞, and 0·∞ is no number.
    def sample(eta):
        return multistep.dpm_solver_2m(
            lambda z, t: jnp.tanh(z),
            jax.random.key(0),
            (1, 3),
            schedule=schedules.VP(),
            target=predictions.data,
            steps=steps.linear(4),
            start=jnp.array([[0.3, -1.2, 2.0]]),
            eta=eta,
        )

    traced, known = jax.jit(lambda eta: (sample(eta), sample(0.0)))(0.0)
    np.testing.assert_allclose(traced, known, rtol=1e-5)


def unified(order, x, alpha, sigma, ell):
    """UniPC from the paper: ρ by linear systems R ρ = b in the variable h = −(ℓ_s − ℓ_t)."""
    n = len(ell) - 1
    past, state = [denoise(x, alpha[0], sigma[0], np)], x
    for i in range(n):
        q = min(order, i + 1, n - i)
        h = -(ell[i + 1] - ell[i])
        b_of_h = np.expm1(h)
        # φ_1 h = e^h − 1, φ_{k+1} = (φ_k − 1/k!)/h: b_k = k! h φ_{k+1}/B(h).
        phi, b = np.expm1(h) / h, []
        for k in range(1, q + 1):
            phi = (phi - 1 / math.factorial(k)) / h
            b.append(math.factorial(k) * h * phi / b_of_h)
        ratios = [(ell[i - j] - ell[i]) / -h for j in range(1, q)]
        slopes = [(past[-1 - j] - past[-1]) / r for j, r in enumerate(ratios, 1)]
        base = sigma[i + 1] / sigma[i] * state - alpha[i + 1] * np.expm1(h) * past[-1]

        def weights(nodes, b=b):
            if len(nodes) == 1:
                return [0.5]
            return np.linalg.solve(np.vander(nodes, increasing=True).T, b[: len(nodes)])

        rho = weights(ratios) if ratios else []
        mixed = sum(w * s for w, s in zip(rho, slopes, strict=True))
        x = base - alpha[i + 1] * b_of_h * mixed
        if i + 1 == n:
            return x
        past.append(denoise(x, alpha[i + 1], sigma[i + 1], np))
        rho = weights([*ratios, 1.0])
        slopes.append(past[-1] - past[-2])
        mixed = sum(w * s for w, s in zip(rho, slopes, strict=True))
        state = base - alpha[i + 1] * b_of_h * mixed


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("schedule", [schedules.Cosine(), schedules.EDM(sigma_max=10.0)])
def test_unipc_solves_the_linear_systems_of_the_paper(x64, schedule, order):
    times = steps.linear(8, 0.95)
    start = np.random.default_rng(1).standard_normal((2, 3))
    result = run(multistep.unipc, schedule, times, start=jnp.asarray(start), order=order)
    alpha, sigma, ell = levels(schedule, times)
    # The paper's quotients are 0/0 at infinite h: e^-700 is as good as clean.
    ell[-1] = ell[-2] + 700
    np.testing.assert_allclose(result, unified(order, start, alpha, sigma, ell), rtol=1e-9)


def test_unipc_of_order_1_and_dpm_solver_take_the_same_first_step(x64):
    # A single step has no history and no correction: both are DDIM.
    start = jnp.array([[0.3, -1.2, 2.0]])
    times = jnp.array([0.9, 0.4])
    schedule = schedules.VP()
    one = run(multistep.unipc, schedule, times, (1, 3), start, order=3)
    other = run(multistep.dpm_solver_2m, schedule, times, (1, 3), start)
    alpha, sigma = np.asarray(schedule.alpha(times)), np.asarray(schedule.sigma(times))
    data = denoise(start, alpha[0], sigma[0], np)
    ddim = alpha[1] * data + sigma[1] * (start - alpha[0] * data) / sigma[0]
    np.testing.assert_allclose(one, ddim, rtol=1e-12)
    np.testing.assert_allclose(other, ddim, rtol=1e-12)


MEAN, VARIANCE = 0.7, 0.3


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("sampler", "options", "order"),
    [
        (multistep.dpm_solver_2m, {}, 2),
        (multistep.dpm_solver_2m, {"eta": 0.5}, 2),
        (multistep.dpm_solver_2m, {"eta": 1.0}, 2),
        (multistep.dpm_solver_3m, {}, 2),
        (multistep.dpm_solver_3m, {"eta": 0.5}, 2),
        (multistep.unipc, {"order": 1}, 2),
        (multistep.unipc, {"order": 2}, 3),
        (multistep.unipc, {"order": 3}, 4),
    ],
)
@pytest.mark.parametrize("schedule", [schedules.VP(), schedules.EDM(sigma_max=10.0)])
def test_mean_is_exact_and_variance_converges_at_the_order(
    x64, monkeypatch, schedule, sampler, options, order
):
    def predict(z, t):
        alpha, sigma = schedule.alpha(t[0]), schedule.sigma(t[0])
        return MEAN + alpha * VARIANCE / (alpha**2 * VARIANCE + sigma**2) * (z - alpha * MEAN)

    # The sampler is affine in start and noise: example i > 0 receives unit noise in draw i − 1
    # alone, example 0 none, and the variance is the sum of squared differences to example 0.
    def unit(key, index, shape, dtype):
        return (jnp.arange(shape[0])[:, None] == index + 1).astype(dtype)

    monkeypatch.setattr(sampling_loop, "_normal", unit)
    errors = []
    for n in (64, 128):
        times = steps.linear(n, 0.9, 0.2)
        alpha, sigma = schedule.alpha(times), schedule.sigma(times)
        variance = alpha**2 * VARIANCE + sigma**2
        size = n + 2 if options.get("eta") else 2
        start = alpha[0] * MEAN + jnp.sqrt(variance[0]) * jnp.eye(size, 1, -1)
        result = run(sampler, schedule, times, (size, 1), start, predict, **options)[:, 0]
        assert abs(result[0] - alpha[-1] * MEAN) < 1e-12
        errors.append(float(jnp.sum((result[1:] - result[0]) ** 2) / variance[-1] - 1))
    # The measured slopes lie within .22 of the order.
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.3)
    assert abs(errors[1]) < 0.1**order


def test_starting_from_pure_noise_produces_no_nan():
    schedule = schedules.Cosine(log_snr_max=math.inf, log_snr_min=-math.inf)
    start = jnp.linspace(-1.0, 1.0, 5)[:, None]
    for sampler in (multistep.dpm_solver_2m, multistep.unipc):
        _, path = run(sampler, schedule, steps.linear(6), (5, 1), start, trajectory=True)
        assert bool(jnp.isfinite(path).all())
        # The map of a one-dimensional flow is increasing.
        assert bool((jnp.diff(path, axis=1) > 0).all())


def test_an_unknown_order_raises():
    with pytest.raises(ValueError, match="order must be 1, 2 or 3, not 4"):
        run(multistep.unipc, schedules.VP(), steps.linear(4), order=4)
