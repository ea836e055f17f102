"""LMS and DEIS against their integrals in NumPy and SciPy, and their orders."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from genjax.diffusion import adams_bashforth, predictions, schedules, steps

pytestmark = pytest.mark.heavy
slow = functools.partial(pytest.param, marks=pytest.mark.slow)
MEAN, VARIANCE = 0.7, 0.3


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def denoise(z, alpha, sigma):
    y = z / (alpha**2 + sigma**2) ** 0.5
    return 0.8 * y * alpha - 0.3 * y * y * alpha / (1 + y * y) + 0.1


def run(sampler, schedule, times, start, denoise=denoise, **options):
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


def weights(variable, nodes, first, last):
    """∫ of each node's Lagrange polynomial in u = variable(ρ), by adaptive quadrature."""

    def basis(ratio, j):
        rest = [k for k in range(len(nodes)) if k != j]
        return np.prod([(variable(ratio) - nodes[k]) / (nodes[j] - nodes[k]) for k in rest])

    return [
        integrate.quad(basis, first, last, args=(j,), epsabs=1e-12)[0] for j in range(len(nodes))
    ]


KINDS = {
    "lms": (adams_bashforth.lms, {}, lambda schedule, ratio: ratio),
    "deis": (
        adams_bashforth.deis,
        {},
        lambda schedule, ratio: float(schedule.time(-2 * np.log(ratio))),
    ),
    "deis log_snr": (
        adams_bashforth.deis,
        {"log_snr": True},
        lambda schedule, ratio: np.log(ratio),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("schedule", [schedules.EDM(sigma_max=20.0), schedules.RectifiedFlow()])
def test_each_step_integrates_the_polynomial_of_the_noise(kind, schedule):
    sampler, options, variable = KINDS[kind]
    # A flow begins at σ/α = ∞: there polynomials in t alone have a node.
    times = steps.linear(7)
    alpha, sigma = np.array(schedule.alpha(times)), np.array(schedule.sigma(times))
    start = sigma[0] * np.random.default_rng(0).standard_normal((2, 3))
    result = run(sampler, schedule, times, jnp.asarray(start), order=3, **options)

    alpha[-1], sigma[-1] = 1, 0
    with np.errstate(divide="ignore"):
        ratio = sigma / alpha
    nodes = list(times) if kind == "deis" else [variable(schedule, r) for r in ratio[:-1]]
    z, noises = start, []
    for i in range(7):
        data = denoise(z, alpha[i], sigma[i])
        noises.append((z - alpha[i] * data) / sigma[i])
        after = alpha[i + 1] * data + sigma[i + 1] * noises[i]
        used = [j for j in range(i, max(i - 3, -1), -1) if np.isfinite(nodes[j])]
        if 0 < i < 6 and len(used) > 1:
            found = weights(
                lambda r: variable(schedule, r), [nodes[j] for j in used], ratio[i], ratio[i + 1]
            )
            assert sum(found) == pytest.approx(ratio[i + 1] - ratio[i])
            moves = (w * (noises[j] - noises[i]) for w, j in zip(found, used, strict=True))
            after = after + alpha[i + 1] * sum(moves)
        z = after
    np.testing.assert_allclose(result, z, rtol=1e-7)


@pytest.mark.parametrize(
    ("kind", "order"),
    [
        slow("lms", 1),
        slow("lms", 2),
        ("lms", 4),
        ("deis", 3),
        slow("deis", 4),
        slow("deis log_snr", 3),
    ],
)
def test_the_variance_of_a_gaussian_converges_at_the_order(kind, order):
    sampler, options, _ = KINDS[kind]
    schedule, errors = schedules.VP(), []

    def ideal(z, alpha, sigma):
        return MEAN + alpha * VARIANCE / (alpha**2 * VARIANCE + sigma**2) * (z - alpha * MEAN)

    for n in (32, 64):
        times = steps.linear(n, 0.9, 0.2)
        alpha, sigma = schedule.alpha(times), schedule.sigma(times)
        variance = alpha**2 * VARIANCE + sigma**2
        start = alpha[0] * MEAN + jnp.sqrt(variance[0]) * jnp.eye(2, 1, -1)
        x = run(sampler, schedule, times, start, ideal, order=order, **options)[:, 0]
        assert abs(x[0] - alpha[-1] * MEAN) < 1e-12
        errors.append(float((x[1] - x[0]) ** 2 / variance[-1] - 1))
    # The first steps are of lower order: slopes of 3.6 to 3.8 at order 4, within .25 below.
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.4 if order == 4 else 0.25)
    assert abs(errors[1]) < 0.1**order


@pytest.mark.parametrize("sampler", [adams_bashforth.lms, adams_bashforth.deis])
def test_an_unknown_order_raises(sampler):
    with pytest.raises(ValueError, match="order must be 1 to 4, not 5"):
        run(sampler, schedules.VP(), steps.linear(4), jnp.ones((1, 2)), order=5)
