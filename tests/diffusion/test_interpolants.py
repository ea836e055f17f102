"""The SDE of an interpolant against its formula in NumPy, and the marginals that all w share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import interpolants, predictions, samplers, sampling_loop, schedules, steps

pytestmark = pytest.mark.heavy
MEAN, VARIANCE = 0.7, 0.3
FLOW, VP = schedules.RectifiedFlow(), schedules.VP()


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def denoise(z, alpha, sigma):
    return MEAN + alpha * VARIANCE / (alpha**2 * VARIANCE + sigma**2) * (z - alpha * MEAN)


def run(schedule, times, start, sampler=interpolants.sde, **options):
    return jax.jit(
        lambda start: sampler(
            lambda z, t: denoise(z, schedule.alpha(t[0]), schedule.sigma(t[0])),
            None,
            start.shape,
            schedule=schedule,
            target=predictions.data,
            steps=times,
            start=start,
            trajectory=True,
            **options,
        )[1]
    )(start)


def test_on_a_flow_it_is_euler_and_maruyama(monkeypatch):
    table = np.random.default_rng(0).standard_normal((8, 2, 3))
    monkeypatch.setattr(sampling_loop, "_normal", lambda key, i, *_: jnp.asarray(table)[i])
    times = steps.linear(6)
    path = run(FLOW, times, jnp.asarray(table[0]), diffusion=lambda t: 0.5 * jnp.sin(t) ** 2)
    z = table[0]
    for i, t in enumerate(np.arange(6, 1, -1) / 6):
        data = denoise(z, 1 - t, t)
        noise, w, width = (z - (1 - t) * data) / t, 0.5 * np.sin(t) ** 2, 1 / 6
        # Ma et al. 2024: dz = (v − w s/2) dt + √w dW̄ with the score s = −ε̂/σ, and dt < 0.
        drift = (noise - data) - w / 2 * (-noise / t)
        z = z - width * drift + np.sqrt(w * width) * table[i + 1]
        np.testing.assert_allclose(path[i + 1], z, rtol=1e-9)
    np.testing.assert_allclose(path[6], denoise(z, 5 / 6, 1 / 6), rtol=1e-9)


def test_without_diffusion_it_is_ddim():
    start, times = jnp.linspace(-2.0, 2.0, 6).reshape(2, 3), steps.linear(5)
    keyed = {"diffusion": jnp.zeros_like}
    sde = lambda predict, key, *a, **o: interpolants.sde(predict, jax.random.key(0), *a, **o)  # noqa: E731
    np.testing.assert_allclose(
        run(VP, times, start, sde, **keyed), run(VP, times, start, samplers.ddim), rtol=1e-12
    )


@pytest.mark.parametrize(
    "diffusion",
    [
        pytest.param(lambda t: 2 * VP.sigma(t), id="twice sigma"),
        pytest.param(lambda t: 0 * t + 0.5, id="constant", marks=pytest.mark.slow),
        pytest.param(interpolants.forward(VP), id="forward", marks=pytest.mark.slow),
    ],
)
def test_every_diffusion_has_the_marginals_at_first_order(monkeypatch, diffusion):
    # Affine in start and noise: example i receives unit noise in draw i − 1 alone, 0 receives none.
    def unit(key, index, shape, dtype):
        return (jnp.arange(shape[0])[:, None] == index + 1).astype(dtype)

    monkeypatch.setattr(sampling_loop, "_normal", unit)
    errors = []
    for n in (128, 256):
        times = steps.linear(n, 0.9, 0.2)
        alpha, sigma = VP.alpha(times), VP.sigma(times)
        variance = alpha**2 * VARIANCE + sigma**2
        start = alpha[0] * MEAN + jnp.sqrt(variance[0]) * jnp.eye(n + 2, 1, -1)
        x = run(VP, times, start, diffusion=diffusion)[-1, :, 0]
        assert abs(x[0] - alpha[-1] * MEAN) < 1e-12
        errors.append(float(jnp.sum((x[1:] - x[0]) ** 2) / variance[-1] - 1))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.15)
    assert abs(errors[1]) < 0.03


@pytest.mark.parametrize("schedule", [FLOW, VP, schedules.EDM(), schedules.Cosine()])
def test_forward_is_that_of_the_forward_process(schedule):
    t = jnp.array([0.1, 0.5, 0.9])
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    dalpha, dsigma = (jax.vmap(jax.grad(f))(t) for f in (schedule.alpha, schedule.sigma))
    expected = 2 * sigma * dsigma - 2 * sigma**2 * dalpha / alpha
    np.testing.assert_allclose(interpolants.forward(schedule)(t), expected, rtol=1e-9)


def test_a_maker_of_a_diffusion_is_refused():
    with pytest.raises(TypeError, match="diffusion returned a function"):
        run(VP, steps.linear(3), jnp.ones((2, 3)), diffusion=lambda t: VP.sigma)
