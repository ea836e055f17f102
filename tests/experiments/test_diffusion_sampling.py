"""How diffusion and flow experiments sample: every sampler on data whose model is known exactly."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import ddpm_cifar10, ddpm_fashion, flow_cifar10, latent_shapes
from experiments.sampling import SAMPLERS, PixelSamplerSettings
from genjax.diffusion import predictions, schedules
from genjax.diffusion.discrete_schedules import DiscreteLinear
from genjax.errors import ConfigError
from genjax.limits import Count
from genjax.run.settings import sampling_settings

MEAN, STD, N = 0.3, 0.2, 4000
KEY = jax.random.key(0)
Z = jax.random.normal(KEY, (N, 1, 1, 1))
KEYS = jax.random.split(KEY, N)


@dataclass(frozen=True)
class Chain(PixelSamplerSettings):
    levels: Count = 1000


KINDS = {
    "chain": (Chain(), DiscreteLinear(), predictions.noise),
    "flow": (PixelSamplerSettings(), schedules.RectifiedFlow(), predictions.flow),
}


SHARED_LOOPS = (
    "ddim", "ancestral", "euler", "heun", "dpm_solver_2m", "unipc", "predictor_corrector",
)  # fmt: skip


def drawing(kind, mean=MEAN, **changes):
    """The functions of a family that knows its data, which are N(MEAN, STD²)."""
    config, schedule, target = KINDS[kind]

    def predict(state, label):
        def prediction(z, t):
            alpha, sigma = (f(t)[:, None, None, None] for f in (schedule.alpha, schedule.sigma))
            total = alpha**2 * STD**2 + sigma**2
            data = mean + alpha * STD**2 * (z - alpha * mean) / total
            noise = sigma * (z - alpha * mean) / total
            return target.of(data, noise, alpha, sigma)

        return prediction

    made = replace(config, **{"sampling_steps": 200, **changes})
    return made.drawing(predict, schedule=schedule, target=target)


# With both kinds those whose loops the others share, and the others with one.
PAIRS = [
    pytest.param(sampler, kind, marks=() if sampler in SHARED_LOOPS else pytest.mark.slow)
    for i, sampler in enumerate(SAMPLERS)
    for j, kind in enumerate(KINDS)
    if sampler in SHARED_LOOPS or i % 2 == j
]


@pytest.mark.parametrize(("sampler", "kind"), PAIRS)
def test_every_sampler_draws_the_data(sampler, kind):
    # A Langevin step is as long as the score of the whole image says: that of 100 pixels.
    z = Z.reshape(40, 10, 10, 1)
    images = jax.jit(drawing(kind, sampler=sampler)["generate"])(None, KEYS[:40], z, None)
    data = 2 * images - 1
    # 4,000 draws: 0.003, 0.002. A spread of 200 steps of first order, or of Langevin's: within 5 %.
    assert data.mean() == pytest.approx(MEAN, abs=0.015)
    assert data.std() == pytest.approx(STD, rel=0.05)


@pytest.mark.parametrize(
    "kind", [k if k == "flow" else pytest.param(k, marks=pytest.mark.slow) for k in KINDS]
)
@pytest.mark.parametrize("spacing", ["quadratic", "karras", "log_snr"])
def test_every_spacing_leads_from_noise_to_data(kind, spacing):
    config, schedule, _ = KINDS[kind]
    for n in (1, 2, 200):
        times = replace(config, spacing=spacing, sampling_steps=n).grid(schedule)
        assert times.shape == (n + 1,)
        assert (times[0], times[-1]) == (1, 0)
        assert bool((jnp.diff(times) < 0).all())
        assert n == 1 or times[-2] == pytest.approx(1e-3, rel=1e-3)
    images = jax.jit(drawing(kind, sampler="unipc", spacing=spacing)["generate"])
    data = 2 * images(None, KEYS, Z, None) - 1
    np.testing.assert_allclose(data, MEAN + STD * Z, atol=0.01)  # the exact map


@pytest.mark.parametrize(
    ("sampler", "more"),
    [
        ("ddim", {"eta": 1.0}),
        ("dpm_solver_2m", {"eta": 1.0}),
        ("dpm_solver_sde", {}),
        ("euler", {"churn": 20.0}),
    ],
)
def test_noise_drawn_in_each_step_keeps_the_spread(sampler, more):
    images = jax.jit(drawing("chain", sampler=sampler, **more)["generate"])
    data = 2 * images(None, KEYS, Z, None) - 1
    assert data.std() == pytest.approx(STD, rel=0.1)  # the bias of 200 steps of first order
    exact = MEAN + STD * Z
    assert np.corrcoef(data.ravel(), exact.ravel())[0, 1] < 0.99  # it depends on more than z


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "sampler",
    [
        "ddim",
        *(pytest.param(s, marks=pytest.mark.slow) for s in ("heun", "dpm_solver_2m", "unipc")),
    ],
)
def test_an_image_comes_back_from_its_noise(kind, sampler):
    image = np.arange(0, 256, 5, np.uint8)[:, None, None, None]
    errors = []
    for n in (100, 200):
        made = drawing(kind, sampler=sampler, sampling_steps=n)
        noise = jax.jit(made["invert"])(None, None, image, None)
        again = jax.jit(made["generate"])(None, None, noise, None)
        errors.append(np.abs(255 * again - image).max())
    # Twice the steps leave half of the error at first order, a quarter at second.
    assert errors[0] / errors[1] > (1.8 if sampler == "ddim" else 2.5)
    assert errors[1] < (12 if sampler == "ddim" else 1.5)  # grey levels, at the edges of the range
    exact = (image / 127.5 - 1 - MEAN) / STD
    np.testing.assert_allclose(noise, exact, atol=0.25 if sampler == "ddim" else 0.01)


@pytest.mark.parametrize(
    "changes",
    [
        {"sampler": "ancestral"},
        {"sampler": "predictor_corrector"},
        {"sampler": "dpm_solver_sde"},
        {"sampler": "interpolant_sde"},
        {"sampler": "dpm_solver_2s", "eta": 0.5},
        {"eta": 0.5},
        {"sampler": "heun", "churn": 1.0},
    ],
)
def test_a_sampler_that_draws_noise_has_no_inversion(changes):
    assert "invert" not in drawing("flow", **changes)
    assert "invert" in drawing("flow", **{name: 0.0 for name in changes if name != "sampler"})


def test_a_trajectory_leads_from_the_noise_to_the_image():
    made = drawing("flow", sampling_steps=5)
    path = jax.jit(made["trajectory"])(None, KEYS, Z, None)
    assert path.shape == (N, 6, 1, 1, 1)
    np.testing.assert_array_equal(path[:, 0], (Z + 1) / 2)
    np.testing.assert_array_equal(path[:, -1], jax.jit(made["generate"])(None, KEYS, Z, None))


def test_thresholds_keep_estimates_in_the_range_of_pixels():
    z = Z.reshape(40, 10, 10, 1)
    found = {
        threshold: drawing("flow", mean=1.0, threshold=threshold, quantile=0.9)["generate"](
            None, None, z, None
        )
        for threshold in ("off", "static", "dynamic")
    }
    assert found["off"].max() > 1.2
    for threshold in ("static", "dynamic"):
        assert found[threshold].max() == pytest.approx(1, abs=1e-6)
    assert (found["static"] == 1).mean() > 0.4  # saturated, where dynamic scales
    assert 0.02 < (found["dynamic"] > 1 - 1e-6).mean() < 0.2


@pytest.mark.parametrize(
    ("module", "changes", "message"),
    [
        (ddpm_fashion, {"sampling_steps": 2000}, "--sampling-steps 2000 must be at most"),
        (
            ddpm_fashion,
            {"sampler": "ancestral", "spacing": "karras"},
            "--spacing karras has no",
        ),
        (
            ddpm_fashion,
            {"sampler": "unipc", "eta": 0.5},
            "--eta 0.5 has no effect on",
        ),
        (ddpm_fashion, {"churn": 3.0}, "--churn 3.0 has no effect on --sampler ddim"),
        (ddpm_fashion, {"quantile": 0.9}, "--quantile 0.9 has no effect without --threshold dyn"),
        (ddpm_cifar10, {"sampling_steps": 40}, "no effect on --sampler ancestral"),
        (flow_cifar10, {"quantile": 0.9}, "without --threshold dynamic"),
        (
            latent_shapes,
            {"eta": 0.5, "sampler": "heun"},
            "--eta 0.5 has no effect on",
        ),
    ],
)
def test_settings_without_an_effect_are_refused_where_they_were_chosen(module, changes, message):
    config = replace(module.Config(), **changes)
    with pytest.raises(ConfigError, match=message):
        config.check_sampling(changes.keys())
    assert changes.keys() <= config.chosen() <= sampling_settings(module.Config).keys()
    if "sampling_steps" not in changes or module is ddpm_cifar10:
        config.check_sampling({"sampler"})  # those were the run's, which a command may change
