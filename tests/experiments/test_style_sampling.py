"""StyleGAN2 in use: truncation, style mixing, and projection in w through the commands."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import stylegan
from experiments.style_sampling import SIDE, StyleSampler
from experiments.style_training import StyleGame
from genjax import data
from genjax.data import ImageSpec
from genjax.edit import projection
from genjax.edit.projection import project
from genjax.errors import ConfigError
from genjax.run import RestoredRun, moving
from genjax.train.state import TrainState

pytestmark = pytest.mark.heavy

KEY = jax.random.key(3)
SMALL = stylegan.Config(latent=4, features=6, mapping_layers=1, widths=(4,), classes=True)
SPEC = ImageSpec((4, 4, 1), 2, 100)
LABEL = np.array([0, 1, 1, 0], np.int32)
KEYS = jax.random.split(KEY, 4)
Z = jax.random.normal(KEY, (4, 4))


def trained(config):
    """A state with a generator of numbers that are all drawn, and a mean w off zero."""
    random, play = np.random.default_rng(0), StyleGame(config, SPEC.shape, 2)
    shapes = jax.eval_shape(partial(play.generator.init, KEY), jnp.zeros((1, config.latent)))
    own = jax.tree.map(lambda x: random.normal(0, 0.5, x.shape).astype(np.float32), shapes)
    own["params"]["map"] = jax.tree.map(lambda x: 100 * x, own["params"]["map"])  # over their rate
    kept = {"w": np.arange(6, dtype=np.float32), "length": np.float32(0)}
    step, params = np.int32(0), {"generator": own}
    return TrainState(step, params, {}, ema=params, variables={"generator": kept})


def of_styles(**changes):
    """A sampler of the layers' w in place of images, its state, and w of the noise `Z`."""
    config = replace(SMALL, widths=(4, 4), **changes)
    sampler = StyleSampler(StyleGame(config, SPEC.shape, 2))
    sampler.game.draw = lambda own, w, keys: 2 * w - 1
    state = trained(config)
    return sampler, state, sampler.mapping(state.ema["generator"], Z, LABEL)


@pytest.mark.parametrize("psi", [0.0, 0.5, 1.0])
def test_truncation_draws_latents_towards_the_running_mean(psi):
    sampler, state, w = of_styles(truncation=psi)
    found, mean = sampler.generate(state, KEYS, Z, LABEL), np.arange(6)[None]
    expected = np.repeat((mean + psi * (w - mean))[:, None], 4, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cut", range(5))
def test_layers_below_the_crossover_are_styled_by_the_row_and_the_others_by_the_column(cut):
    sampler, state, coarse = of_styles(crossover=cut)
    found = sampler.generate(state, KEYS, {"coarse": Z, "fine": 2 - Z}, LABEL)
    pure = [sampler.generate(state, KEYS, z, LABEL) for z in (Z, 2 - Z)]
    np.testing.assert_array_equal(found[:, :cut], pure[0][:, :cut])
    np.testing.assert_array_equal(found[:, cut:], pure[1][:, cut:])
    np.testing.assert_allclose(pure[0][:, 2], coarse, rtol=1e-5, atol=1e-5)
    assert (np.abs(pure[0] - pure[1]).max(2) > 0.01).all()


def test_a_sheet_of_mixed_images_has_one_latent_per_row_and_column():
    n = 2 * SIDE**2 + 3  # two sheets and some more
    pure, mixing = (stylegan.build(replace(SMALL, crossover=cut), SPEC) for cut in (None, 1))

    @jax.jit
    def drawn(key):
        return mixing.latents(key, n), mixing.latents(key, 70), pure.latents(key, SIDE)

    found, fewer, first = jax.tree.map(np.asarray, drawn(KEY))
    for sheet in range(2):
        cells = slice(sheet * SIDE**2, (sheet + 1) * SIDE**2)
        coarse, fine = (found[k][cells].reshape(SIDE, SIDE, -1) for k in ("coarse", "fine"))
        assert (coarse == coarse[:, :1]).all()
        assert (fine == fine[:1]).all()
        np.testing.assert_array_equal(coarse[:, 0], fine[0])
    assert len({row.tobytes() for row in found["coarse"]}) == 2 * SIDE + 1
    jax.tree.map(lambda some, of: np.testing.assert_array_equal(some, of[:70]), fewer, found)
    np.testing.assert_array_equal(found["fine"][:SIDE], first)  # the first images of `sample`


def test_projections_start_at_the_mean_of_the_class_with_the_spread_of_w(monkeypatch):
    sampler, state, _ = of_styles()

    def moments(decode, key, y, operator, *, latent, mapping):
        found = *projection.latent_moments(mapping, latent), decode(jnp.zeros((2, 1, 6)))
        return projection.Projection(found, y, y, y)

    monkeypatch.setattr("experiments.style_sampling.project", moments)

    @jax.jit
    def both(state):
        images = jnp.zeros((2, *SPEC.shape), jnp.uint8)
        found = sampler.invert(state, KEYS[:2], images, jnp.array([0, 1]))
        own, z = state.ema["generator"], jax.random.normal(jax.random.key(9), (20_000, 4))
        return found, [sampler.mapping(own, z, jnp.full(len(z), k)) for k in (0, 1)]

    (mean, std, start), w = jax.tree.map(np.asarray, both(state))
    centres = np.stack([each.mean(0) for each in w])
    spread = np.sqrt(np.mean([np.square(each - each.mean(0)).sum(1) for each in w]))
    np.testing.assert_allclose(std, spread, rtol=0.05)
    np.testing.assert_allclose(mean, np.zeros((1, 6)), atol=0.1 * spread)  # of 1,000 noises
    for layer in range(4):
        np.testing.assert_allclose((start[:, layer] + 1) / 2, centres, atol=0.1 * spread)
    assert np.abs(centres[0] - centres[1]).max() > 0.3 * spread


@pytest.fixture(scope="module")
def opened():
    """A run whose projections take 100 steps, images of its generator, and what is found of two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.style_sampling.project", partial(project, steps=100))
        family, state = stylegan.build(SMALL, SPEC), trained(SMALL)
        draw, seven = jax.jit(family.generate), jax.random.split(KEY, 7)
        offsets = np.random.default_rng(1).normal(0, 0.3, (7, 1, 6)).astype(np.float32)
        made = draw(state, seven, offsets, np.resize(LABEL, 7))[:4]
        pixels = np.clip(255 * np.asarray(made), 0, 255).astype(np.uint8)
        images = data.from_arrays(pixels, LABEL, test=(pixels, LABEL), names=("a", "b"))
        about = {"shape": [4, 4, 1], "classes": 2, "count": 4, "names": ["a", "b"]}
        run = RestoredRun(Path("any"), family, {"images": about}, state, images)
        yield run, pixels, moving.latents_of(run, pixels[1:3], 1), partial(draw, state, seven)


@pytest.mark.slow
def test_images_are_found_in_w_and_edited_there(opened):
    """Found, joined by a straight line, and made another class's by the same offset."""
    run, pixels, found, draw = opened
    assert found.shape == (2, 1, 6)
    rows = jnp.stack([found[0], found.mean(0), found[1], *jnp.zeros_like(found), *found])
    images = draw(rows, np.array([1, 1, 1, 1, 1, 0, 0]))
    images = np.rint(255 * np.clip(images, 0, 1))
    far, near = (np.square(x - pixels[1:3]).mean() for x in (images[3:5], images[[0, 2]]))
    assert near < far / 20
    path = run.interpolate(images=pixels[1:3], steps=3, label=1)
    np.testing.assert_array_equal(path, images[:3])
    other = run.edit(pixels[1:3], label=1, to_label=0).images[:, 0]
    np.testing.assert_array_equal(other, images[5:])
    assert np.abs(other - images[[0, 2]]).max() > 5
    with pytest.raises(ConfigError, match="by --label"):
        run.interpolate(images=pixels[:2])


@pytest.mark.parametrize("crossover", [2, 9])
def test_a_crossover_leaves_the_column_a_layer(crossover):
    config = replace(SMALL, crossover=crossover)
    for check in (lambda: config.check(SPEC), lambda: config.check_sampling({"crossover"})):
        with pytest.raises(ConfigError, match="below the number of layers, 2"):
            check()
    replace(SMALL, crossover=1).check_sampling({"crossover"})
