"""Schedules and predictions against the schedulers of diffusers, where it is installed."""

import math
import warnings

import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import discrete_schedules, predictions, schedules

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")

AT = np.arange(1, 1001, dtype=np.float32) / 1000


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (discrete_schedules.DiscreteLinear(), {"beta_schedule": "linear"}),
        (discrete_schedules.DiscreteCosine(), {"beta_schedule": "squaredcos_cap_v2"}),
        (
            discrete_schedules.zero_terminal_snr(discrete_schedules.DiscreteLinear()),
            {"beta_schedule": "linear", "rescale_betas_zero_snr": True},
        ),
    ],
    ids=["linear", "cosine", "zero terminal SNR"],
)
def test_discrete_schedules_match_the_ddpm_scheduler(ours, theirs):
    products = diffusers.DDPMScheduler(**theirs).alphas_cumprod.double().numpy()
    # Theirs are products of a thousand float32 factors.
    np.testing.assert_allclose(np.float64(ours.alpha(AT)) ** 2, products, rtol=2e-3, atol=3e-7)
    np.testing.assert_allclose(np.float64(ours.sigma(AT)) ** 2, 1 - products, rtol=1e-3)


@pytest.mark.parametrize(
    ("prediction", "theirs"),
    [
        (predictions.noise, "epsilon"),
        (predictions.data, "sample"),
        (predictions.velocity, "v_prediction"),
    ],
    ids=["noise", "data", "velocity"],
)
def test_predictions_match_the_ddim_scheduler(prediction, theirs):
    scheduler = diffusers.DDIMScheduler(prediction_type=theirs, clip_sample=False)
    scheduler.set_timesteps(1000)
    rng = np.random.default_rng(0)
    x, eps, output = rng.standard_normal((3, 4, 3)).astype(np.float32)
    for step in (0, 300, 999):
        ours = discrete_schedules.DiscreteLinear(1000, 1e-4, 0.02)
        t = jnp.float32((step + 1) / 1000)
        alpha, sigma = ours.alpha(t), ours.sigma(t)
        z = scheduler.add_noise(*map(torch.tensor, (x, eps)), torch.tensor([step]))
        np.testing.assert_allclose(alpha * x + sigma * eps, z, rtol=1e-4, atol=1e-5)
        estimate = scheduler.step(torch.tensor(output), step, z).pred_original_sample
        np.testing.assert_allclose(
            prediction.to_data(output, z.numpy(), alpha, sigma), estimate, rtol=2e-3, atol=1e-4
        )
        if theirs == "v_prediction":
            v = scheduler.get_velocity(*map(torch.tensor, (x, eps)), torch.tensor([step]))
            np.testing.assert_allclose(prediction.of(x, eps, alpha, sigma), v, rtol=1e-4, atol=1e-5)


def test_edm_schedule_and_prediction_match_the_edm_euler_scheduler():
    scheduler = diffusers.EDMEulerScheduler(sigma_min=0.002, sigma_max=80, sigma_data=0.5, rho=7)
    scheduler.set_timesteps(18)
    sigmas = scheduler.sigmas.numpy()[:18]
    np.testing.assert_allclose(schedules.EDM().sigma(jnp.linspace(1, 0, 18)), sigmas, rtol=1e-5)
    rng = np.random.default_rng(0)
    z, output = rng.standard_normal((2, 4, 3)).astype(np.float32)
    for sigma in sigmas:
        theirs = scheduler.precondition_outputs(*map(torch.tensor, (z, output, sigma)))
        ours = predictions.edm.to_data(output, z, 1.0, jnp.float32(sigma))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
        scale = scheduler.precondition_inputs(torch.ones(1), torch.tensor(sigma))[0]
        np.testing.assert_allclose(predictions.edm.input_scale(1.0, sigma), scale, rtol=1e-5)


def test_shifted_rectified_flow_matches_the_flow_match_euler_scheduler():
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0).sigmas.numpy()[::-1]
    ours = schedules.Shifted(schedules.RectifiedFlow(), -2 * math.log(3.0))
    np.testing.assert_allclose(ours.sigma(AT[:-1]), theirs[:-1], rtol=1e-5)
