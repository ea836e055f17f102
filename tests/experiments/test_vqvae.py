"""VQ-VAE: codes and back by each quantizer, the codebook in training, the frozen first stage."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tyro

from experiments import vqvae
from experiments.vq_autoencoder import AutoencoderSettings, Codec, FirstStage
from genjax import run
from genjax.data import ImageSpec, from_arrays
from genjax.losses import quantized
from genjax.run.family import state_shapes, untrained_state
from tests import families

pytestmark = pytest.mark.heavy

FIRST = AutoencoderSettings(
    steps=2, channels=4, blocks=1, block_channels=4, codes=6, latent=3, restart=0.6
)
SMALL = vqvae.Config(autoencoder=FIRST, width=8, depth=1, heads=2, warm_up=0)
SPEC = ImageSpec((8, 8, 3), 4, 100)
KEYS = jax.random.split(jax.random.key(3), 16)
FAST = {"xla_backend_optimization_level": 0}


def config(quantizer, **settings):
    levels = {"levels": (3, 4)} if quantizer == "fsq" else {}
    return replace(SMALL, quantizer=quantizer, autoencoder=replace(FIRST, **levels), **settings)


def batch():
    return {name: jnp.asarray(a[0]) for name, a in families.batches(1).items()}


def compiled(f):
    return jax.jit(f, compiler_options=FAST)


@pytest.mark.parametrize(
    "quantizer", ["residual", *(pytest.param(q, marks=pytest.mark.slow) for q in ("vq", "fsq"))]
)
def test_numbers_decode_to_the_codes_of_the_encoder_and_the_loss_is_theirs(quantizer):
    settings = config(quantizer)
    codec = Codec(settings, SPEC.shape)
    first = FirstStage(settings, codec).family()
    state = untrained_state(first, jax.random.key(0))
    params = jax.tree.map(lambda a: 3 * a, state.params)  # latents of more than one code
    state = state.replace(params=params)
    x = batch()["image"] / 127.5 - 1

    def values(state, x):
        z = codec.latents(state.params["autoencoder"], x)
        found = codec.quantize(state.variables.get("autoencoder"), z)
        numbers = codec.encode(state, x)
        again = codec.vectors(state.variables.get("autoencoder"), numbers)
        value, aux = first.game["autoencoder"].loss(state.params, state, KEYS, batch())
        return z, found, numbers, again, codec.decode(state, numbers), value, aux.metrics

    z, found, numbers, again, image, value, metrics = compiled(values)(state, x)
    levels = {"vq": 1, "residual": 2, "fsq": 1}[quantizer]
    assert numbers.shape == (16, 2, 2, levels) == (16, *codec.grid)
    assert len(np.unique(numbers)) > 2
    assert 0 <= numbers.min() <= numbers.max() < codec.count == {"fsq": 12}.get(quantizer, 6)
    np.testing.assert_allclose(again, found.codes, rtol=1e-5, atol=1e-5)
    mse = np.square(2 * np.asarray(image) - 1 - x).mean()
    np.testing.assert_allclose(metrics["mse"], mse, rtol=1e-4)
    commitment = 0
    if quantizer != "fsq":
        books = state.variables["autoencoder"]["codebook"]["vectors"]
        commitment = quantized.residual_quantize(z, books).commitment.mean() / z[0].size
    np.testing.assert_allclose(value, mse / 0.7**2 + 0.25 * commitment, rtol=1e-4)
    used = np.bincount(np.asarray(numbers)[..., 0].ravel(), minlength=codec.count) / 64
    perplexity = np.exp(-np.sum(used * np.log(np.where(used > 0, used, 1))))
    name = "perplexity_1" if levels == 2 else "perplexity"
    np.testing.assert_allclose(metrics[name], perplexity, rtol=1e-5)


@pytest.mark.slow
def test_a_step_moves_the_codebooks_by_their_averages_and_restarts_what_is_not_used():
    settings = config("residual")
    codec = Codec(settings, SPEC.shape)
    stage = FirstStage(settings, codec)
    state = untrained_state(stage.family(), jax.random.key(0))
    before = state.variables["autoencoder"]["codebook"]

    @compiled
    def step(state):
        z = codec.latents(state.params["autoencoder"], batch()["image"] / 127.5 - 1)
        found = codec.quantize(state.variables["autoencoder"], z)
        return found, *stage.moved(before, found, KEYS)

    found, after, restarted = jax.tree.map(np.asarray, step(state))
    moved = 0
    for i in range(2):
        use = np.bincount(np.asarray(found.indices[i]).ravel(), minlength=6)
        counts = 0.99 + 0.01 * use
        dead = counts < 0.6 * counts.mean()
        moved += dead.sum()
        np.testing.assert_allclose(
            after["counts"][i], np.where(dead, counts.mean(), counts), rtol=1e-5
        )
        rows = np.asarray(found.given[i]).reshape(-1, 3)
        for k in np.flatnonzero(dead):
            assert (rows == np.asarray(after["vectors"][i, k])).all(-1).any()
    assert restarted == moved


@pytest.mark.slow
def test_the_prior_is_trained_on_the_codes_and_the_first_stage_stays():
    settings = config("vq", classes=True, dropout=0.0)
    family = vqvae.build(settings, SPEC)
    state = untrained_state(family, jax.random.key(0))
    shown = batch()

    @compiled
    def values(state):
        loss, _ = family.game["prior"].loss(state.params, state, KEYS, shown)
        return loss, family.measure.scores(state, KEYS, shown)

    loss, scores = values(state)
    uniform = 4 * np.log(6)  # an untrained prior: 2x2 codes of 6
    np.testing.assert_allclose(loss, uniform, rtol=1e-5)
    np.testing.assert_allclose(scores["codes_nll"], uniform, rtol=1e-5)
    assert set(family.game) == {"prior"}
    assert set(state.params) == {"autoencoder", "prior"}
    first = untrained_state(family.before, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, first.variables, state.variables)


@pytest.mark.slow
def test_temperature_and_top_k_reach_the_sampler():
    spec, z = ImageSpec((8, 8, 3), 0, 100), jnp.full((2, 4), 0.999)
    state = None

    def drawn(**how):
        nonlocal state
        family = vqvae.build(config("vq", **how), spec)
        if state is None:  # an untrained prior would draw by its ties
            state = untrained_state(family, jax.random.key(0))
            head = state.ema["prior"]["params"]["out"]
            head["bias"] = jnp.arange(6.0)
        return compiled(family.generate)(state, None, z, None)

    likeliest = drawn(temperature=0.0)
    np.testing.assert_array_equal(drawn(top_k=1), likeliest)
    assert np.abs(drawn() - likeliest).max() > 1e-6  # numbers near 1 draw the least likely code


def test_the_preset_parses_and_has_the_sizes_of_the_paper():
    preset, spec = vqvae.PAPER, ImageSpec((32, 32, 3), 10, 50_000)
    assert tyro.cli(vqvae.Config, args=[], default=preset) == preset
    preset.check(spec)
    family = vqvae.build(preset, spec)
    state = state_shapes(family)
    assert state.variables["autoencoder"]["codebook"]["vectors"].shape == (1, 512, 64)
    counts = {n: sum(x.size for x in jax.tree.leaves(t)) for n, t in state.params.items()}
    encoder = 3 * 64 * 16 + 64 + 64 * 128 * 16 + 128 + 128 * 128 * 9 + 128 + 128 * 64 + 64
    decoder = 64 * 128 * 9 + 128 + 128 * 64 * 16 + 64 + 64 * 3 * 16 + 3
    blocks = 4 * (128 * 32 * 9 + 32 + 32 * 128 + 128)
    assert counts["autoencoder"] == encoder + decoder + blocks
    assert round(counts["prior"] / 1e6) == 29
    latents = jax.eval_shape(lambda: family.latents(jax.random.key(0), 2))
    assert latents.shape == (2, 64)  # 8x8 codes


@pytest.mark.slow
@pytest.mark.parametrize("quantizer", ["vq", "residual", "fsq"])
def test_sixteen_images_are_learned_by_heart(quantizer, tmp_path):
    shown = families.batches(1)["image"][0]
    images = from_arrays(shown, test=shown)
    first = AutoencoderSettings(steps=1500, channels=32, codes=32, latent=8)
    if quantizer == "fsq":
        first = AutoencoderSettings(steps=1500, channels=32, levels=(5, 5, 3))
    settings = vqvae.Config(
        autoencoder=first, quantizer=quantizer, width=32, depth=2, heads=2, warm_up=50, ema=0.99,
        dropout=0.0,
    )  # fmt: skip
    how = replace(
        settings.run, steps=800, batch=16, every=800, samples=16, devices=1, dir=str(tmp_path)
    )
    settings = replace(settings, run=how)
    trained = run.train(vqvae.build(settings, images.spec), images, how)
    again, drawn = trained.reconstruct(shown).astype(float), trained.sample(16).astype(float)
    assert np.abs(again - shown).mean() < 10  # of 255
    nearest = np.abs(drawn[:, None] - shown[None]).mean((2, 3, 4)).min(1)
    assert np.median(nearest) < 12
