"""Samplers step for step against diffusers' schedulers, where that library is installed."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import (
    adams_bashforth,
    discrete_schedules,
    few_step,
    guidance,
    multistep,
    predictions,
    samplers,
    sampling_loop,
    schedules,
    steps,
)
from genjax.losses.consistency import boundary

diffusers = pytest.importorskip("diffusers")
torch = pytest.importorskip("torch")

# Its schedulers pass torch tensors to NumPy in a way that NumPy 2 deprecates.
pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

SHAPE, N = (2, 3), 10
# Its tables are float32 products of 1,000 factors, and so is some of its arithmetic.
TOLERANCE = {"rtol": 2e-3, "atol": 2e-3}


def denoise(z, alpha, sigma):
    """An arbitrary denoiser, for NumPy, JAX and torch arrays."""
    y = z / (alpha**2 + sigma**2) ** 0.5
    return 0.8 * y * alpha - 0.3 * y * y * alpha / (1 + y * y) + 0.1


@pytest.fixture
def draws(monkeypatch):
    """One table of noise for both: row 0 the start, row i the noise of step i."""
    table = np.random.default_rng(0).standard_normal((N + 1, *SHAPE)).astype(np.float32)
    monkeypatch.setattr(sampling_loop, "_normal", lambda key, i, *_: jnp.asarray(table)[i])
    return table


def play(scheduler, start, noise, predict, monkeypatch, **options):
    """The states of a scheduler's own loop, with the rows of `noise` as its random numbers."""
    rows = iter(noise)
    module = sys.modules[type(scheduler).__module__]
    if hasattr(module, "randn_tensor"):
        monkeypatch.setattr(module, "randn_tensor", lambda *a, **k: torch.tensor(next(rows)))
    x = torch.tensor(start)
    states = [x]
    for t in scheduler.timesteps:
        x = scheduler.step(predict(x, t), t, x, **options).prev_sample
        states.append(x)
    return np.stack([np.asarray(x) for x in states])


def linear(scheduler_class, spacing="trailing", **config):
    scheduler = scheduler_class(
        beta_start=1e-4, beta_end=0.02, beta_schedule="linear", timestep_spacing=spacing, **config
    )
    scheduler.set_timesteps(N)
    return scheduler


def predict_noise(scheduler):
    def predict(x, t):
        alpha = scheduler.alphas_cumprod[int(t)] ** 0.5
        sigma = (1 - alpha**2) ** 0.5
        return (x - alpha * denoise(x, alpha, sigma)) / sigma

    return predict


def ours(sampler, schedule, times, **options):
    def predict(z, t):
        return denoise(z, schedule.alpha(t[0]), schedule.sigma(t[0]))

    return sampler(
        predict,
        None,
        SHAPE,
        schedule=schedule,
        target=predictions.data,
        steps=times,
        trajectory=True,
        **options,
    )[1]


def times_of(scheduler):
    """Its 0-based time steps as times of ours, then the data."""
    return jnp.append((jnp.asarray(scheduler.timesteps) + 1) / 1000, 0.0)


DDPM = discrete_schedules.DiscreteLinear()


@pytest.mark.parametrize(("kind", "variance"), [("fixed_small", 0.0), ("fixed_large", 1.0)])
def test_ancestral_matches_the_ddpm_scheduler(draws, monkeypatch, kind, variance):
    scheduler = linear(
        diffusers.DDPMScheduler, "leading", variance_type=kind, clip_sample=False, steps_offset=0
    )
    path = ours(samplers.ancestral, DDPM, times_of(scheduler), variance=variance)
    theirs = play(scheduler, np.array(path[0]), draws[1:], predict_noise(scheduler), monkeypatch)
    np.testing.assert_allclose(path, theirs, **TOLERANCE)


@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_ddim_matches_the_ddim_scheduler(draws, monkeypatch, eta):
    scheduler = linear(diffusers.DDIMScheduler, clip_sample=False)
    path = ours(samplers.ddim, DDPM, times_of(scheduler), eta=eta)
    theirs = play(
        scheduler, np.array(path[0]), draws[1:], predict_noise(scheduler), monkeypatch, eta=eta
    )
    np.testing.assert_allclose(path, theirs, **TOLERANCE)


@pytest.mark.parametrize(("algorithm", "eta"), [("dpmsolver++", 0.0), ("sde-dpmsolver++", 1.0)])
def test_dpm_solver_2m_matches_the_multistep_scheduler(draws, monkeypatch, algorithm, eta):
    scheduler = linear(
        diffusers.DPMSolverMultistepScheduler, algorithm_type=algorithm, solver_order=2
    )
    path = ours(multistep.dpm_solver_2m, DDPM, times_of(scheduler), eta=eta)
    theirs = play(scheduler, np.array(path[0]), draws[1:], predict_noise(scheduler), monkeypatch)
    np.testing.assert_allclose(path, theirs, **TOLERANCE)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc_matches_the_unipc_scheduler(draws, monkeypatch, order):
    scheduler = linear(
        diffusers.UniPCMultistepScheduler, solver_order=order, solver_type="bh2", predict_x0=True
    )
    path = ours(multistep.unipc, DDPM, times_of(scheduler), order=order)
    theirs = play(scheduler, np.array(path[0]), draws[1:], predict_noise(scheduler), monkeypatch)
    # Theirs lists predicted states, ours corrected ones: the start and the result are common.
    np.testing.assert_allclose(path[-1], theirs[-1], **TOLERANCE)


def test_euler_matches_the_edm_euler_scheduler(draws, monkeypatch):
    scheduler = diffusers.EDMEulerScheduler(sigma_data=0.5)
    scheduler.set_timesteps(N)
    path = ours(samplers.euler, schedules.EDM(), steps.karras(N, schedule=schedules.EDM()))

    def predict(x, t):
        level = scheduler.sigmas[scheduler.step_index or 0]
        skip, out = 0.25 / (0.25 + level**2), level * 0.5 / (0.25 + level**2) ** 0.5
        return (denoise(x, 1.0, level) - skip * x) / out

    theirs = play(scheduler, np.array(path[0]), [], predict, monkeypatch)
    np.testing.assert_allclose(path, theirs, **TOLERANCE)


def test_heun_matches_the_heun_scheduler(draws, monkeypatch):
    scheduler = diffusers.HeunDiscreteScheduler(use_karras_sigmas=True)
    scheduler.set_timesteps(N)
    schedule = schedules.EDM()
    # Every level but the first and the last is listed twice, as an end and as a start.
    levels = jnp.asarray(scheduler.sigmas)[jnp.array([0, *range(1, 2 * N - 2, 2)])]
    times = jnp.append(schedule.time(-2 * jnp.log(levels)), 0.0)
    path = ours(samplers.heun, schedule, times)

    def predict(x, t):
        level = scheduler.sigmas[scheduler.step_index or 0]
        return (x - denoise(x, 1.0, level)) / level

    theirs = play(scheduler, np.array(path[0]), [], predict, monkeypatch)
    # Theirs are predicted and corrected states in turn.
    np.testing.assert_allclose(path, [*theirs[::2], theirs[-1]], **TOLERANCE)


def test_euler_matches_the_flow_match_euler_scheduler(draws, monkeypatch):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(N)
    path = ours(samplers.euler, schedules.RectifiedFlow(), jnp.asarray(scheduler.sigmas))

    def predict(x, t):
        level = t / 1000
        return (x - denoise(x, 1 - level, level)) / level

    theirs = play(scheduler, np.array(path[0]), [], predict, monkeypatch)
    np.testing.assert_allclose(path, theirs, **TOLERANCE)


def test_encode_is_ddim_inversion(draws, monkeypatch):
    scheduler = linear(diffusers.DDIMInverseScheduler, clip_sample=False)

    def predict(x, t):
        level = int(t) - 1000 // N
        # Clean data have no noise, but at 0 the scheduler calls the network nevertheless.
        return predict_noise(scheduler)(x, level) if level > 0 else torch.zeros_like(x)

    def ideal(z, t):
        return denoise(z, DDPM.alpha(t[0]), DDPM.sigma(t[0]))

    theirs = play(scheduler, draws[0], [], predict, monkeypatch)
    _, path = samplers.encode(
        ideal,
        jnp.asarray(draws[0]),
        schedule=DDPM,
        target=predictions.data,
        steps=steps.linear(N),
        trajectory=True,
    )
    np.testing.assert_allclose(path, theirs, **TOLERANCE)


def test_consistency_matches_the_consistency_scheduler(draws, monkeypatch):
    scheduler = diffusers.CMStochasticIterativeScheduler(clip_denoised=False)
    scheduler.set_timesteps(4)
    schedule = schedules.EDM()
    times = jnp.append(schedule.time(-2 * jnp.log(jnp.asarray(scheduler.sigmas[:-1]))), 0.0)
    network = boundary(lambda z, t: z / (1 + z * z), schedule=schedule)
    _, path = few_step.consistency(
        network, None, SHAPE, schedule=schedule, steps=times, trajectory=True
    )

    def predict(x, t):
        z = scheduler.scale_model_input(x, t)
        return z / (1 + z * z)

    theirs = play(scheduler, np.array(path[0]), draws[1:], predict, monkeypatch)
    np.testing.assert_allclose(path, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order", [2, 3])
def test_deis_matches_the_deis_scheduler(draws, monkeypatch, order):
    # In 15 steps and more it does not lower the order at the end; it ends at its first level.
    scheduler = diffusers.DEISMultistepScheduler(
        beta_start=1e-4, beta_end=0.02, solver_order=order, timestep_spacing="trailing"
    )
    scheduler.set_timesteps(20)
    times = times_of(scheduler).at[-1].set(1 / 1000)
    path = ours(adams_bashforth.deis, DDPM, times, order=order, log_snr=True)
    theirs = play(scheduler, np.array(path[0]), [], predict_noise(scheduler), monkeypatch)
    np.testing.assert_allclose(path, theirs, **TOLERANCE)


def test_dpm_solver_3m_matches_the_multistep_scheduler(draws, monkeypatch):
    scheduler = linear(diffusers.DPMSolverMultistepScheduler, solver_order=3, solver_type="heun")
    path = ours(multistep.dpm_solver_3m, DDPM, times_of(scheduler))
    theirs = play(scheduler, np.array(path[0]), [], predict_noise(scheduler), monkeypatch)
    # In fewer than 15 steps the last but one of theirs is of second order.
    np.testing.assert_allclose(path[:-2], theirs[:-2], **TOLERANCE)


@pytest.mark.parametrize(("norm", "parallel"), [(2.5, 0.0), (0.0, 0.4)])
def test_projected_guidance_matches_the_guider(norm, parallel):
    guider = pytest.importorskip("diffusers.guiders.adaptive_projected_guidance")
    pair = np.random.default_rng(0).standard_normal((2, 4, 3, 5)).astype(np.float32)
    # Its original formulation multiplies by scale − 1 what is added to the conditional one.
    theirs = guider.normalized_guidance(
        *map(torch.tensor, pair), 6.0, None, parallel, norm, use_original_formulation=True
    )
    guided = guidance.projected(
        lambda z, t: jnp.asarray(pair[0]),
        lambda z, t: jnp.asarray(pair[1]),
        7.0,
        schedule=schedules.EDM(),
        target=predictions.data,
        parallel=parallel,
        norm=norm or None,
    )
    z = jnp.zeros(pair[0].shape)
    np.testing.assert_allclose(guided(z, jnp.full(4, 0.5)), theirs, rtol=1e-4, atol=1e-5)
