"""The experiment edm: settings of its papers, guidance, sampling on its noise levels, its loss."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import edm
from experiments.edm import EDM2, PAPER, Config
from experiments.sampling import SAMPLERS, PixelSamplerSettings
from genjax.data import ImageSpec
from genjax.data.fashion_mnist_6k import ARCHIVE
from genjax.diffusion import predictions, schedules
from genjax.diffusion.samplers import Churn
from genjax.errors import ConfigError
from genjax.limits import check as check_limits
from genjax.models.edm2_unet import EDM2UNet
from genjax.models.song_unet import SongUNet
from genjax.train.step import make_step

FASHION, CIFAR10 = ImageSpec((28, 28, 1), 10, 6000), ImageSpec((32, 32, 3), 10, 50_000)
IMAGENET = ImageSpec((64, 64, 3), 1000, 1_281_167)
pytestmark = pytest.mark.heavy

KEY, EDM = jax.random.key(0), schedules.EDM()
SMALL = Config(channels=4, multipliers=(1,), attention=())


def parameters(config, spec):
    family = edm.build(config, spec)
    params, _ = jax.eval_shape(lambda: family.init(KEY, None))
    return family, sum(leaf.size for leaf in jax.tree.leaves(params))


def test_the_paper_preset_is_that_of_karras_et_al_2022():
    family, count = parameters(PAPER, CIFAR10)
    assert round(count / 1e6, 1) == 55.7
    batch, player = 512, family.game["denoiser"]
    assert PAPER.run.steps * batch == 200_000_000
    steps = jnp.array([0, 1000, 10_000_000 / batch, 300_000])
    np.testing.assert_allclose(
        player.learning_rate(steps), 1e-3 * jnp.minimum(steps * batch / 1e7, 1), rtol=1e-4
    )
    seen = steps[1:] * batch
    expected = 0.5 ** (batch / jnp.minimum(500_000, 0.05 * seen))
    np.testing.assert_allclose([player.ema(s) for s in steps[1:]], expected, rtol=1e-5)
    assert (PAPER.data_std, PAPER.noise_mean, PAPER.noise_std) == (0.5, -1.2, 1.2)
    assert (PAPER.augment, PAPER.label_dropout, PAPER.guidance) == (0.12, 0, 1)
    assert PAPER.denoiser(10, 9) == SongUNet(classes=10, augment=9, dtype=jnp.float32)
    assert replace(PAPER, network="ncsnpp").denoiser().ncsnpp


def test_the_edm2_preset_is_that_of_karras_et_al_2024():
    family, count = parameters(EDM2, IMAGENET)
    assert round(count / 1e6) == 280
    assert EDM2.run.steps * EDM2.run.batch == 1024 << 20
    player = family.game["denoiser"]
    assert list(player.ema) == ["0.05", "0.1"]
    found = [float(player.learning_rate(n)) for n in (0, 2441, 4883, 35_000, 140_000)]
    np.testing.assert_allclose(found, [0, 0.005, 0.01, 0.01, 0.005], rtol=1e-3)
    assert (EDM2.noise_mean, EDM2.noise_std, EDM2.b2) == (-0.8, 1.6, 0.99)
    assert EDM2.denoiser(1000) == EDM2UNet(classes=1000, dtype=jnp.float32)


@pytest.mark.parametrize(
    ("config", "spec"),
    [
        (PAPER, CIFAR10),
        (replace(PAPER, classes=False), CIFAR10),
        (EDM2, IMAGENET),
        (SMALL, FASHION),
    ],
)
def test_the_settings_check_themselves(config, spec):
    check_limits(config)
    config.check(spec)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"half_life": ()}, "--half-life and --lengths are both empty"),
        ({"network": "edm2", "augment": 0.1}, "--augment has no effect with --network edm2"),
        ({"network": "edm2", "channels": 48}, "--network edm2 has heads of 64 channels, .* the 96"),
        ({"channels": 15}, "--channels must be even"),
        ({"multipliers": (1, 1, 1, 1)}, "--multipliers halves images 3 times"),
        ({"attention": (9,)}, "--attention 9 is the height of no level"),
        ({"label_dropout": 0.2}, "--label-dropout 0.2 has no effect without --classes"),
        ({"guidance": 2.0}, "--guidance 2.0 has no effect without --classes or --weak"),
        ({"classes": True, "guidance_interval": (0.1, 1.0)}, "--guidance-interval has no effect"),
        ({"classes": True, "guidance": 2.0, "label_dropout": 0.0}, "--guidance 2.0 needs a net"),
        ({"average": "0.1"}, "--average is for commands that use a run"),
        ({"churn": 1.0, "sampler": "ddim"}, "--churn 1.0 has no effect on --sampler ddim"),
        ({"churn_noise": 1.01}, "--churn-noise 1.01 has no effect without --churn"),
        ({"churn_interval": (0.1, 1.0)}, "--churn-interval .* has no effect without --churn"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_their_flags(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(Config(), **changes).check(FASHION)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weak": "@10"}, "--weak has no effect without --guidance"),
        ({"guidance": 2.0}, "without --classes or --weak"),
    ],
)
def test_a_command_refuses_what_has_no_effect(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(Config(), **changes).check_sampling(changes.keys())
    replace(Config(), guidance=2.0, weak="@10").check_sampling({"guidance", "weak"})


def test_a_warm_up_longer_than_the_run_is_logged(caplog):
    config = Config(run=replace(Config().run, steps=50))
    config.check(FASHION)
    assert "--warm-up 3,200 images is not over by the 1,600 that are trained on" in caplog.text


def guided(label, **settings):
    """Guidance between models whose prediction is a number: parameters plus label."""

    def predict(params, label):
        return lambda z, t: jnp.full_like(z, params + (0 if label is None else label))

    averages = {"strong": 10.0, "weak": 4.0}
    state = SimpleNamespace(averaged=lambda name="strong": {"net": averages[name]})
    config = replace(Config(classes=True), **settings)
    model = config.guided(predict, state, "net", label, EDM)
    t = EDM.time(-2 * jnp.log(jnp.array([0.1, 1.0, 10.0])))
    return model(jnp.zeros((3, 1)), t)[:, 0]


def test_guidance_leads_away_from_no_class_or_from_the_weak_model_between_noise_levels():
    np.testing.assert_allclose(guided(2.0), 12)
    np.testing.assert_allclose(guided(2.0, guidance=3.0), 10 + 3 * 2)
    np.testing.assert_allclose(guided(None, guidance=3.0), 10)
    np.testing.assert_allclose(guided(2.0, guidance=3.0, weak="x"), 6 + 3 * 6)
    np.testing.assert_allclose(guided(None, guidance=3.0, weak="x"), 4 + 3 * 6)
    some = {"guidance": 3.0, "guidance_interval": (0.5, 5.0)}
    np.testing.assert_allclose(guided(2.0, **some), [12, 16, 12])
    low = {"guidance": 3.0, "guidance_interval": (0.0, 5.0)}
    np.testing.assert_allclose(guided(2.0, **low), [16, 16, 12])
    np.testing.assert_allclose(guided(2.0, weak="x", **some), [12, 24, 12])


MEAN, STD, N = 0.3, 0.2, 200
Z = jax.random.normal(KEY, (N, 1, 1, 1))


def drawing(**changes):
    """The functions of a family that knows its data, N(MEAN, STD²), on EDM's noise levels."""
    target = predictions.Preconditioned(0.5)

    def predict(state, label):
        def prediction(z, t):
            sigma = EDM.sigma(t)[:, None, None, None]
            data = MEAN + STD**2 * (z - MEAN) / (STD**2 + sigma**2)
            return target.of(data, (z - data) / sigma, 1.0, sigma)

        return prediction

    given = {"sampler": "heun", "spacing": "karras", "sampling_steps": 18, **changes}
    return PixelSamplerSettings(**given).drawing(predict, schedule=EDM, target=target)


def test_the_default_grid_is_that_of_the_paper():
    found = EDM.sigma(Config().grid(EDM))[:-1]
    ends = np.linspace(80 ** (1 / 7), 0.002 ** (1 / 7), 18) ** 7
    np.testing.assert_allclose(found, ends, rtol=1e-4)
    for spacing in ("linear", "quadratic", "log_snr"):
        times = replace(Config(), spacing=spacing).grid(EDM)
        assert (times[0], times[-1]) == (1, 0)
        assert bool((jnp.diff(times) < 0).all())


def test_latents_are_standard_normal_though_the_noise_is_not():
    data = 2 * jax.jit(drawing(sampling_steps=40)["generate"])(None, None, Z, None) - 1
    np.testing.assert_allclose(data, MEAN + STD * Z, atol=0.02)


def test_churn_reaches_the_sampler_with_its_levels_and_factor(monkeypatch):
    seen = []
    monkeypatch.setitem(SAMPLERS, "heun", lambda *_, churn=None, **how: seen.append(churn) or Z)
    drawing(churn=20.0)["generate"](None, None, Z, None)
    drawing(churn=20.0, churn_interval=(0.05, 50.0), churn_noise=1.003)["generate"](
        None, None, Z, None
    )
    drawing()["generate"](None, None, Z, None)
    assert seen == [Churn(20.0), Churn(20.0, 0.05, 50.0, 1.003), None]


def test_images_come_back_from_their_latents_and_the_way_is_shown_in_the_range():
    made = drawing(sampling_steps=60)
    image = np.arange(0, 256, 5, np.uint8)[:, None, None, None]
    noise = jax.jit(made["invert"])(None, None, image, None)
    np.testing.assert_allclose(noise, (image / 127.5 - 1 - MEAN) / STD, atol=0.05)
    again, path = jax.jit(
        lambda z: (made["generate"](None, None, z, None), made["trajectory"](None, None, z, None))
    )(noise)
    assert np.abs(255 * again - image).max() < 3
    np.testing.assert_array_equal(path[:, -1], again)
    np.testing.assert_allclose(2 * path[:, 0] - 1, noise, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["ddpmpp", "edm2"])
def test_the_error_of_a_new_network_is_one_at_every_noise_level(network):
    pixels = 127.5 + 63.75 * np.random.default_rng(0).normal(size=(64, 8, 8, 1))
    images = pixels.clip(0, 255).astype(np.uint8)
    size = float(np.sqrt(np.mean((images / 127.5 - 1) ** 2)))
    config = replace(SMALL, network=network, data_std=size)
    family = edm.build(config, ImageSpec((8, 8, 1), 0, 100))
    state = family.first_state(KEY, None)
    each, validate = jax.random.split(KEY, 64), jax.jit(family.validate)
    for t in (0.05, 0.5, 0.95):
        mse = validate(state, each, {"image": images}, jnp.full(64, t))["mse"]
        assert mse.mean() == pytest.approx(1, abs=0.05)  # 4,096 pixels


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "rate", "bound"), [("ddpmpp", 2e-3, 0.15), ("edm2", 1e-2, 0.15)]
)
def test_sixteen_images_are_learned_by_heart(network, rate, bound):
    with np.load(ARCHIVE) as stored:
        images = stored["train_images"][:16, ::2, ::2, None]
    config = Config(
        network=network,
        channels=16,
        multipliers=(1, 2),
        learning_rate=rate,
        warm_up=0,
        data_std=0.8,
        b2=0.99,
    )
    family = edm.build(
        replace(config, run=replace(config.run, batch=32)), ImageSpec((14, 14, 1), 10, 16)
    )
    state = family.first_state(KEY, None)
    batch = {"image": np.tile(images, (2, 1, 1, 1))}
    step = jax.jit(make_step(family.game, None), donate_argnums=0)
    for _ in range(400):
        state, _ = step(state, KEY, batch)
    each = jax.random.split(KEY, 32)
    mse = jax.jit(family.validate)(state, each, batch)["mse"].mean()
    assert mse < 0.15  # 1 untrained; images that were not trained on leave 0.3
