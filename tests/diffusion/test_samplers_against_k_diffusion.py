"""Samplers step for step against k-diffusion's, where that is installed (`--no-deps` is enough)."""

import importlib
import importlib.util
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import (
    adams_bashforth,
    adaptive,
    multistep,
    predictions,
    sampling_loop,
    schedules,
    singlestep,
    steps,
)

torch = pytest.importorskip("torch")
if importlib.util.find_spec("k_diffusion") is None:
    pytest.skip("k_diffusion is not installed", allow_module_level=True)

pytestmark = pytest.mark.heavy

SHAPE, N = (2, 3), 10
SCHEDULE = schedules.VP()  # α < 1, which k-diffusion divides out


def load():
    """`k_diffusion.sampling` without what its package imports beside it."""
    package = types.ModuleType("k_diffusion")
    package.__path__ = importlib.util.find_spec("k_diffusion").submodule_search_locations
    utils = types.ModuleType("k_diffusion.utils")
    utils.append_dims = lambda x, n: x[(...,) + (None,) * (n - x.ndim)]
    ode, sde = types.ModuleType("torchdiffeq"), types.ModuleType("torchsde")
    ode.odeint = None
    with pytest.MonkeyPatch.context() as patch:
        for module in (package, utils, ode, sde):
            patch.setitem(sys.modules, module.__name__, module)
        package.utils = utils
        return importlib.import_module("k_diffusion.sampling")


theirs = load()
TABLE = np.random.default_rng(0).standard_normal((3 * N + 1, *SHAPE))


@pytest.fixture(autouse=True)
def draws(monkeypatch):
    monkeypatch.setattr(sampling_loop, "_normal", lambda key, i, *_: jnp.asarray(TABLE)[i])
    with jax.enable_x64(True):
        yield


def denoise(z, alpha, sigma):
    """An arbitrary denoiser, for JAX and torch arrays."""
    y = z / (alpha**2 + sigma**2) ** 0.5
    return 0.8 * y * alpha - 0.3 * y * y * alpha / (1 + y * y) + 0.1


def model(x, ratio):
    """The denoiser as a function of z/α and σ/α."""
    ratio = ratio[:, None]
    alpha = (1 + ratio**2) ** -0.5
    return denoise(alpha * x, alpha, alpha * ratio)


def ours(sampler, times, **options):
    """z/α along the path."""

    def predict(z, t):
        return denoise(z, SCHEDULE.alpha(t[0]), SCHEDULE.sigma(t[0]))

    path = jax.jit(
        lambda: sampler(
            predict,
            None,
            SHAPE,
            schedule=SCHEDULE,
            target=predictions.data,
            steps=times,
            trajectory=True,
            **options,
        )[1]
    )()
    return np.asarray(path / SCHEDULE.alpha(times)[:, None, None])


def ratios(times):
    return torch.tensor(np.asarray(SCHEDULE.sigma(times) / SCHEDULE.alpha(times)))


def play(sampler, sigmas, draw=None, **options):
    """The states of one of its samplers, from our start."""
    states, start = [], torch.tensor(np.asarray(TABLE[0]))
    options |= {} if draw is None else {"noise_sampler": draw}
    x = sampler(
        model, start * sigmas[0], sigmas, callback=lambda d: states.append(d["x"]), disable=True,
        **options,
    )  # fmt: skip
    return np.stack([*states, x])


def one_by_one(skip=1):
    """The draws of our steps, of which there are `skip` places in each."""
    rows = iter(TABLE[skip::skip])
    return lambda *_: torch.tensor(next(rows))


def brownian():
    """Draws of DPM++ SDE: in each step the first part of a Brownian motion, and all of it."""
    rows, last = iter(TABLE[1:]), []

    def draw(sigma, sigma_next):
        last.append((torch.tensor(next(rows)), sigma - sigma_next))
        if len(last) % 2:
            return last[-1][0]
        (first, part), (second, all_of_it) = last[-2:]
        return (part / all_of_it) ** 0.5 * first + (1 - part / all_of_it) ** 0.5 * second

    return draw


@pytest.mark.parametrize(
    ("sampler", "options", "reference", "draw", "more"),
    [
        (adams_bashforth.lms, {}, "sample_lms", None, {}),
        (adams_bashforth.lms, {"order": 2}, "sample_lms", None, {"order": 2}),
        (singlestep.dpm_solver, {}, "sample_dpm_2", None, {}),
        (
            singlestep.dpm_solver,
            {"eta": 0.7},
            "sample_dpm_2_ancestral",
            lambda: one_by_one(2),
            {"eta": 0.7},
        ),
        (
            singlestep.dpm_solver_2s,
            {"eta": 1.0},
            "sample_dpmpp_2s_ancestral",
            lambda: one_by_one(2),
            {},
        ),
        (singlestep.dpm_solver_sde, {}, "sample_dpmpp_sde", brownian, {}),
        (singlestep.dpm_solver_sde, {"eta": 0.6}, "sample_dpmpp_sde", brownian, {"eta": 0.6}),
        (multistep.dpm_solver_2m, {}, "sample_dpmpp_2m", None, {}),
        (multistep.dpm_solver_2m, {"eta": 1.0}, "sample_dpmpp_2m_sde", one_by_one, {}),
        (multistep.dpm_solver_3m, {"eta": 1.0}, "sample_dpmpp_3m_sde", one_by_one, {}),
        (multistep.dpm_solver_3m, {"eta": 0.3}, "sample_dpmpp_3m_sde", one_by_one, {"eta": 0.3}),
    ],
)
def test_every_state_is_k_diffusions(sampler, options, reference, draw, more):
    end = 0.1 if options.get("order") == 2 else 0.0
    times = steps.linear(N, 0.95, end)
    path = ours(sampler, times, **options)
    sigmas = ratios(times)
    expected = play(getattr(theirs, reference), sigmas, draw and draw(), **more)
    if sampler is adams_bashforth.lms and not end:
        # Theirs extrapolates to clean data, where ours ends on the estimate of the data.
        np.testing.assert_allclose(path[:-1], expected[:-1], rtol=1e-9)
        last = model(torch.tensor(path[-2]), sigmas[-2].expand(2))
        np.testing.assert_allclose(path[-1], last, rtol=1e-9)
    else:
        np.testing.assert_allclose(path, expected, rtol=1e-9)


def test_dpm_solver_of_third_order_takes_the_steps_of_k_diffusion():
    times = steps.linear(N, 0.95, 0.1)
    path = ours(singlestep.dpm_solver, times, order=3)
    solver, at = theirs.DPMSolver(model), -ratios(times).log()
    for here, there, x, expected in zip(at, at[1:], path, path[1:], strict=False):
        after, _ = solver.dpm_solver_3_step(torch.tensor(x), here, there)
        np.testing.assert_allclose(after, expected, rtol=1e-9)


@pytest.mark.parametrize("gains", [(0.0, 1.0, 0.0), (0.2, 0.7, 0.1)])
@pytest.mark.parametrize("order", [2, 3])
def test_adaptive_steps_are_those_of_k_diffusion_for_one_example(order, gains):
    options = {"order": order, "rtol": 0.02, "atol": 0.003}
    schedule = schedules.EDM(sigma_min=0.05, sigma_max=20.0)  # theirs measures z/α

    def predict(z, t):
        return model(z, schedule.sigma(t))

    z, evaluations, rejected = jax.jit(
        lambda: adaptive.dpm_solver_adaptive(
            predict, None, SHAPE, schedule=schedule, target=predictions.data,
            start=20 * jnp.asarray(TABLE[0]), end=0.0, gains=gains, **options,
        )
    )()  # fmt: skip
    solver, ends = theirs.DPMSolver(model), -torch.tensor([20.0, 0.05], dtype=torch.float64).log()
    for row in range(2):
        start = 20 * torch.tensor(TABLE[0, row : row + 1])
        x, info = solver.dpm_solver_adaptive(
            start, *ends, **options, **dict(zip(("pcoeff", "icoeff", "dcoeff"), gains, strict=True))
        )
        assert (info["nfe"], info["n_reject"]) == (evaluations[row], rejected[row])
        # It keeps the tolerances in float32.
        np.testing.assert_allclose(z[row], x[0], rtol=1e-6)
