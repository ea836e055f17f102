"""What restoration networks are shown, and that they restore from that alone."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import restore_fashion
from experiments.restoration import NOISE, TASKS, observed
from genjax import run
from genjax.data import ImageSpec
from genjax.errors import ConfigError
from genjax.run.family import untrained_state
from tests import tiny

SHAPE = (16, 16, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (4, *SHAPE), np.uint8)
X = jnp.asarray(IMAGES, jnp.float32) / 127.5 - 1
KEYS = jax.random.split(jax.random.key(0), 4)
SMALL = restore_fashion.Config(
    channels=8, multipliers=(1,), attention=(), sampling_steps=2, sampler="euler", latent=4
)


def shown(task, noise=0.0, keys=KEYS, x=X):
    return jax.jit(lambda keys, x: observed(task, noise, SHAPE, keys, x))(keys, x)


@pytest.mark.parametrize("task", TASKS)
def test_a_network_is_shown_the_observation_and_each_example_its_own(task):
    def both(keys, x):
        found = observed(task, 0.0, SHAPE, keys, x)
        operator = TASKS[task](SHAPE, jax.random.split(keys[2])[0])
        y = operator(x[2:3])
        return found, y, operator(found[2:3, ..., :-1]), operator.pseudo_inverse(y)

    both = jax.jit(both)
    found, y, again, smallest = both(KEYS, X)
    seen, known = found[2:3, ..., :-1], found[2:3, ..., -1:]
    if task == "deblur":
        np.testing.assert_allclose(seen, y, atol=1e-5)
    else:  # the image of smallest norm that the observation allows
        np.testing.assert_allclose(again, y, atol=1e-5)
        np.testing.assert_allclose(seen, smallest, atol=1e-5)
    if task == "inpaint":
        np.testing.assert_array_equal((seen == X[2:3]).all(-1), known[..., 0] == 1)
        np.testing.assert_array_equal((seen == 0).all(-1), known[..., 0] == 0)
        assert len({float(each.sum()) for each in found[..., -1]}) > 1  # not one box for all
    else:
        assert (known == 1).all()
    np.testing.assert_allclose(both(KEYS[::-1], X[::-1])[0][::-1], found, atol=1e-6)


@pytest.mark.slow
def test_the_noise_of_an_observation_has_its_deviation():
    keys = jax.random.split(jax.random.key(1), 64)
    x = jnp.zeros((64, *SHAPE))
    assert float(shown("denoise", 0.5, keys, x)[..., :-1].std()) == pytest.approx(0.5, rel=0.01)
    filled = shown("inpaint", 0.5, keys, x)
    assert not filled[..., :-1][(filled[..., -1] == 0)].any()  # hidden, noise included


@pytest.mark.slow
@pytest.mark.parametrize("model", ["diffusion", "vae"])
def test_an_image_is_restored_from_its_own_observation(model):
    """Not from the image: with the same keys, two images that look alike have one restoration."""
    family = restore_fashion.build(
        replace(SMALL, model=model, task="super2"), ImageSpec(SHAPE, 10, 100)
    )
    # The last convolution of an untrained network is 0, so that it would see nothing.
    state = jax.tree.map(
        lambda a: a + 0.02 if jnp.issubdtype(a.dtype, jnp.floating) else a,
        untrained_state(family, jax.random.key(0)),
    )
    blocks = IMAGES.reshape(4, 8, 2, 8, 2, 3)
    alike = blocks[:, :, ::-1, :, ::-1].reshape(IMAGES.shape)
    restore = jax.jit(lambda keys, images: family.reconstruct(state, keys, images))
    found = restore(KEYS, IMAGES)
    assert found.shape == IMAGES.shape
    np.testing.assert_allclose(restore(KEYS, alike), found, atol=1e-4)
    swapped = restore(KEYS, IMAGES[[1, 0, 2, 3]])
    np.testing.assert_allclose(swapped[2:], found[2:], atol=1e-5)
    assert np.abs(swapped[:2] - found[:2]).max() > 0.01
    np.testing.assert_allclose(restore(KEYS[::-1], IMAGES[::-1])[::-1], found, atol=1e-5)
    seen = family.observe(KEYS, IMAGES)
    np.testing.assert_allclose(seen, shown("super2")[..., :-1] / 2 + 0.5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "shape", "message"),
    [
        ({"task": "colourise"}, (28, 28, 1), "--task colourise needs colour images"),
        ({"task": "colourise"}, (28, 28, 4), "these are of 4 channels"),
        ({"task": "super4"}, (30, 28, 3), "--task super4"),
        ({"task": "denoise", "noise": 0.0}, (28, 28, 1), "--noise 0 leaves nothing"),
        ({"model": "vae", "sampling_steps": 8}, (28, 28, 1), "--sampling-steps 8 has no effect"),
        ({"latent": 8}, (28, 28, 1), "--latent 8 has no effect with --model diffusion"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_line(changes, shape, message):
    config = replace(restore_fashion.Config(multipliers=(1, 2)), **changes)
    with pytest.raises(ConfigError, match=message):
        config.check(ImageSpec(shape, 10, 100))


@pytest.mark.parametrize("task", NOISE)
def test_tasks_with_noise_need_no_flag(task):
    restore_fashion.Config(task=task).check(ImageSpec((28, 28, 1), 10, 100))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["diffusion", "vae"])
def test_a_restoration_beats_what_it_was_shown(model, tmp_path, own_sets):
    config = replace(SMALL, model=model, task="inpaint", multipliers=(1, 2), ema=0.98, warm_up=20)
    directory = tiny.trained(restore_fashion, config, tmp_path / "run", own_sets, steps=600)
    family = restore_fashion.build(config, ImageSpec((28, 28, 1), 10, 6000))
    scores = run.open(directory, family).evaluate(n=100).scores
    # 17 dB above a box of grey; the untrained network stays below it.
    assert scores["psnr"].mean > scores["psnr_observed"].mean + 3
