"""Latent diffusion: the scale of the latents, the frozen stages, the autoencoder's losses."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tyro

from experiments import latent_diffusion
from experiments.kl_autoencoder import AutoencoderSettings, Codec, FirstStage, perceptual_distance
from genjax import run
from genjax.data import ImageSpec, from_arrays
from genjax.evaluate.features.weights import FeatureError
from genjax.evaluate.lpips import lpips
from genjax.losses import vae
from genjax.run.family import stages, state_shapes, untrained_state
from genjax.train.checkpoint import Checkpoints
from genjax.train.layout import on_one_device
from genjax.train.step import make_step
from tests import families

pytestmark = pytest.mark.heavy

FIRST = AutoencoderSettings(
    steps=2, channels=4, multipliers=(1, 2), latent=3, critic=True, critic_start=1,
    critic_layers=1, critic_channels=4, measured=40,
)  # fmt: skip
SMALL = latent_diffusion.Config(
    autoencoder=FIRST, channels=4, multipliers=(1,), attention=(), warm_up=0, sampling_steps=2
)
LARGE = ImageSpec((256, 256, 3), 1000, 1_281_167)
PHOTOS = ImageSpec((64, 64, 3), 10, 9469)


@pytest.fixture(autouse=True, scope="module")
def quick():
    """Many small programs that run a few times: compiled without LLVM's optimizer."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def images():
    grey = families.batches(3)["image"].reshape(-1, 8, 8, 3)[:40]
    return from_arrays(grey, test=grey[:8])


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    where = tmp_path_factory.mktemp("latent") / "run"
    settings = replace(SMALL.run, steps=2, batch=8, samples=4, devices=1, every=2, dir=str(where))
    config = replace(SMALL, run=settings)
    family = latent_diffusion.build(config, images.spec)
    return run.train(family, images, settings)


def codec(config=SMALL, shape=(8, 8, 3)):
    return Codec(config.autoencoder.model(shape, config.compute))


def unit(shown):
    """In −1..1."""
    return jnp.asarray(shown) / 127.5 - 1


def assert_scale(params, shown):
    """Of all images, in five batches."""
    mean, log_var = jax.jit(codec().model.posterior)(params["autoencoder"], unit(shown))
    found = {"mean": np.asarray(mean), "square": np.asarray(mean**2 + jnp.exp(log_var))}
    for name, expected in found.items():
        expected = expected.mean((0, 1, 2), dtype=float)
        np.testing.assert_allclose(params["scale"][name], expected, rtol=1e-5, atol=1e-6)


def test_an_epoch_of_the_second_stage_measures_the_scale_and_changes_nothing_else(images):
    config = replace(SMALL, run=replace(SMALL.run, batch=8))
    stage = latent_diffusion.build(config, images.spec).before
    assert stage.steps == 5
    assert (stage.name, stage.before.name) == ("scale", "autoencoder")
    state = untrained_state(stage, jax.random.key(0))
    step, start = jax.jit(make_step(stage.game, None)), state.params["autoencoder"]
    for batch in images.train.batches(0, 0, 8, scan_steps=1, stop=5):
        each = jax.tree.map(lambda x: jnp.asarray(x[0]), batch)
        state, _ = step(state, jax.random.key(1), each)
    shown = images.train.batch(0, 0, 40)["image"]
    assert_scale(state.params, shown)
    jax.tree.map(np.testing.assert_array_equal, state.params["autoencoder"], start)
    keys = jax.random.split(jax.random.key(0), 40)
    z = np.asarray(jax.jit(codec().drawn)(state, keys, unit(shown)))
    # 40 images of 16 places, which are not independent.
    np.testing.assert_allclose(z.mean((0, 1, 2)), 0, atol=0.15)
    np.testing.assert_allclose(z.var((0, 1, 2)), 1, rtol=0.2)


@pytest.mark.slow
def test_a_run_measures_the_scale_of_its_own_autoencoder(trained, images):
    assert_scale(trained.state.params, images.train.batch(0, 0, 40)["image"])


@pytest.mark.slow
def test_the_first_stages_stay_as_they_were_trained_and_the_critic_is_not_kept(trained):
    family, state = trained.family, trained.state
    assert set(state.params) == {"autoencoder", "scale", "prior"}
    kept = {"scale": ["autoencoder", "scale"], "autoencoder": ["autoencoder"]}
    for stage, place in list(stages(family, trained.directory))[:2]:
        checkpoints = Checkpoints(place / "checkpoints", read_only=True)
        before = checkpoints.restore(on_one_device(state_shapes(stage)))
        checkpoints.close()
        for name in kept[place.name]:
            jax.tree.map(np.testing.assert_array_equal, before.params[name], state.params[name])
    start = untrained_state(family, jax.random.key(0)).params["autoencoder"]
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), start, state.params["autoencoder"])
    assert max(jax.tree.leaves(moved)) > 1e-4  # it was trained at all


@pytest.mark.slow
def test_an_export_keeps_the_scale_and_draws_the_same_images(trained, images, tmp_path):
    folder = trained.export(tmp_path / "export")
    again = run.load(folder, trained.family, images)
    assert set(again.state.params["scale"]) == {"mean", "square"}
    jax.tree.map(
        np.testing.assert_array_equal, again.state.params["scale"], trained.state.params["scale"]
    )
    np.testing.assert_array_equal(again.sample(4, seed=1), trained.sample(4, seed=1))
    shown = images.test.batch(0, 0, 4)["image"]
    np.testing.assert_array_equal(again.reconstruct(shown), trained.reconstruct(shown))


@pytest.mark.slow
def test_a_decoded_encoding_is_the_first_stage_s_reconstruction(trained, images):
    shown, state = jnp.asarray(images.test.batch(0, 0, 4)["image"]), trained.state
    first = FirstStage(SMALL, codec().model)
    ours, theirs = (
        jax.jit(f)(state, None, shown) for f in (codec().reconstruct, first.reconstruct)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    expected = -10 * np.log10(np.mean((np.clip(theirs, 0, 1) - shown / 255) ** 2, (1, 2, 3)))
    np.testing.assert_allclose(codec().psnr(state, None, shown), expected, rtol=1e-4)


@pytest.mark.parametrize("error", ["l1", pytest.param("l2", marks=pytest.mark.slow)])
def test_the_loss_is_error_plus_weighted_kl_and_hears_the_critic_from_its_step(error):
    settings = replace(FIRST, error=error, kl=0.01)
    first = FirstStage(replace(SMALL, autoencoder=settings), codec().model)
    family = first.family()
    start, batch = untrained_state(family, jax.random.key(0)), families.batches(1)
    batch = {name: jnp.asarray(a[0]) for name, a in batch.items()}
    keys, x, params = jax.random.split(jax.random.key(1), 16), unit(batch["image"]), start.params

    @jax.jit
    def parts(params, x):
        mean, log_var = first.model.posterior(params["autoencoder"], x)
        z = vae.reparameterize(mean, log_var, keys)
        image = first.model.image(params["autoencoder"], z)
        judged = first.judge(params, x), first.judge(params, image)
        return image, vae.gaussian_kl(mean, log_var), *judged

    image, kl, real, fake = map(np.asarray, parts(params, x))
    gap = np.abs(image - x) if error == "l1" else np.square(image - x)
    expected = gap.mean() + 0.01 * kl.mean() / x[0].size
    found = {}
    for name, player in family.game.items():
        loss = jax.jit(player.loss)
        for step in (0, 1):
            found[name, step] = loss(params, start.replace(step=jnp.int32(step)), keys, batch)
    value, aux = found["autoencoder", 0]
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert aux.metrics["critic_weight"] == 0 == found["critic", 0][0]
    value, aux = found["autoencoder", 1]
    assert aux.metrics["critic_weight"] > 0
    heard = float(aux.metrics["critic_weight"]) * fake.mean()
    np.testing.assert_allclose(value, expected - heard, rtol=1e-4)
    hinge = np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean()
    np.testing.assert_allclose(found["critic", 1][0], hinge, rtol=1e-5)


@pytest.mark.slow
def test_lpips_is_a_part_of_the_error_by_its_weight():
    settings = AutoencoderSettings(
        channels=4, multipliers=(1, 2), error="l1", perceptual="alexnet", perceptual_weight=0.3
    )
    perceptual_distance.cache_clear()
    try:
        settings.check((32, 32, 3))
    except FeatureError as error:
        pytest.skip(str(error))
    config = replace(SMALL, autoencoder=settings)
    first = FirstStage(config, settings.model((32, 32, 3), "float32"))
    x, y = np.random.default_rng(0).uniform(-1, 1, (2, 3, 32, 32, 3)).astype(np.float32)
    perceptual_distance.cache_clear()  # so that the first use is inside a trace, as in a run
    for _ in range(2):
        value, parts = jax.jit(lambda *given: first.errors(*given))(x, y)
        np.testing.assert_allclose(parts["lpips"], lpips()(x, y), rtol=1e-4)
        np.testing.assert_allclose(value, parts["l1"] + 0.3 * parts["lpips"], rtol=1e-6)
    np.testing.assert_allclose(parts["l1"], np.abs(x - y).mean((1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize(
    ("preset", "spec", "autoencoder", "prior"),
    [
        (latent_diffusion.PAPER, LARGE, 83_653_863, 131e6),
        (latent_diffusion.PHOTOS, PHOTOS, 13_859_495, 35_770_244),
    ],
)
def test_a_preset_parses_and_has_its_size(preset, spec, autoencoder, prior):
    assert tyro.cli(latent_diffusion.Config, args=[], default=preset) == preset
    preset = replace(preset, autoencoder=replace(preset.autoencoder, perceptual="off"))
    preset.check(spec)
    params = state_shapes(latent_diffusion.build(preset, spec)).params
    counts = {name: sum(x.size for x in jax.tree.leaves(tree)) for name, tree in params.items()}
    assert counts["autoencoder"] == autoencoder
    assert counts["prior"] == pytest.approx(prior, rel=0.01)
    assert counts["scale"] == 8


@pytest.mark.slow
@pytest.mark.parametrize("prior", ["edm", "dit"])
def test_the_score_of_an_untrained_prior_is_that_of_no_prediction(prior):
    config = replace(SMALL, prior=prior, width=8, depth=1, heads=2, patch=2, autoencoder=FIRST)
    family = latent_diffusion.build(config, ImageSpec((8, 8, 3), 0, 40))
    state = untrained_state(family, jax.random.key(0))
    batch = {"image": jnp.asarray(families.batches(16)["image"].reshape(-1, 8, 8, 3))}
    keys = jax.random.split(jax.random.key(1), 256)
    params = state.params["autoencoder"]
    mean, log_var = jax.jit(codec().model.posterior)(params, unit(batch["image"]))
    scale = {"mean": mean.mean((0, 1, 2)), "square": (mean**2 + jnp.exp(log_var)).mean((0, 1, 2))}
    state = state.replace(params={**state.params, "scale": scale})
    found = jax.jit(family.validate)(state, keys, batch)["mse"].mean()
    # Of EDM's output, of unit variance; and of ε − z. 256 images of 48 numbers.
    assert float(found) == pytest.approx({"edm": 1, "dit": 2}[prior], rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("prior", ["edm", "dit"])
def test_sixteen_images_are_learned_by_heart(prior, tmp_path):
    shown = families.batches(1)["image"][0]
    images = from_arrays(shown, test=shown)
    autoencoder = AutoencoderSettings(steps=1500, channels=16, multipliers=(1, 2), measured=16)
    config = latent_diffusion.Config(
        autoencoder=autoencoder, prior=prior, multipliers=(1,), attention=(), warm_up=50, ema=0.99,
        width=64, depth=3, patch=1,
    )  # fmt: skip
    settings = replace(
        config.run, steps=1500, batch=16, every=1500, samples=16, devices=1, dir=str(tmp_path)
    )
    config = replace(config, run=settings)
    trained = run.train(latent_diffusion.build(config, images.spec), images, settings)
    again, drawn = trained.reconstruct(shown).astype(float), trained.sample(16).astype(float)
    assert np.abs(again - shown).mean() < 5  # of 255
    nearest = np.abs(drawn[:, None] - shown[None]).mean((2, 3, 4)).min(1)
    assert np.median(nearest) < 12
