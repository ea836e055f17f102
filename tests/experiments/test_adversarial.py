"""What the GANs share: the critic's augmentation."""

import logging
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import dcgan_fashion, gan_fashion
from genjax.data import ImageSpec
from genjax.errors import ConfigError
from genjax.run.family import untrained_state

SPEC = ImageSpec((8, 8, 1), 0, 100)
SMALL = {
    gan_fashion: gan_fashion.Config(hidden=8, latent=4),
    dcgan_fashion: dcgan_fashion.Config(widths=(8, 4, 4), latent=4),
}
KEYS = jax.random.split(jax.random.key(1), 6)
BATCH = {"image": jax.random.randint(jax.random.key(2), (6, 8, 8, 1), 0, 256).astype(jnp.uint8)}


def losses(experiment, kind, batches=(BATCH,), probabilities=(0.0,)):
    """[{player: (loss, Aux)}] of an untrained GAN, for each batch and probability."""
    family = experiment.build(replace(SMALL[experiment], augment=kind), SPEC)
    state = untrained_state(family, jax.random.key(0))

    @jax.jit
    def each(batch, probability):
        variables = dict(state.variables)
        if kind == "ada":
            variables["augmentation"] |= {"probability": probability}
        now = replace(state, variables=variables)
        return {
            name: player.loss(state.params, now, KEYS, batch)
            for name, player in family.game.items()
        }

    return [each(batch, p) for batch in batches for p in probabilities]


@pytest.mark.slow
@pytest.mark.parametrize("experiment", SMALL)
def test_adaptive_augmentation_is_off_at_first_and_follows_the_critic(experiment):
    (plain,) = losses(experiment, "none")
    off, on = losses(experiment, "ada", probabilities=(0.0, 0.9))
    for name in ("critic", "generator"):
        np.testing.assert_allclose(off[name][0], plain[name][0], rtol=1e-6)
        assert abs(on[name][0] - plain[name][0]) > 1e-4
    assert "augmentation" not in plain["critic"][1].variables
    found = on["critic"][1]
    assert found.variables["augmentation"]["minibatches"] == 1
    np.testing.assert_allclose(found.metrics["augment"], 0.9)
    np.testing.assert_allclose(found.variables["augmentation"]["sign"], found.metrics["sign"])
    assert "augmentation" not in on["generator"][1].variables


def test_flips_mirror_the_real_images_alone_and_diff_augment_both():
    mirrored = {"image": BATCH["image"][:, :, ::-1]}
    plain, other = losses(gan_fashion, "none", (BATCH, mirrored))
    (flipped,), (diff,) = losses(gan_fashion, "flip"), losses(gan_fashion, "diff")
    real = [each["critic"][1].metrics["real"] for each in (plain, flipped, other)]
    assert len({float(each) for each in real}) == 3
    fake = [each["critic"][1].metrics["fake"] for each in (plain, flipped, diff)]
    assert fake[0] == fake[1] != fake[2]


def test_settings_that_do_not_fit_are_refused_and_flips_are_reported(caplog):
    with pytest.raises(ConfigError, match="--augment ada takes grey or RGB images, not 4"):
        gan_fashion.Config(augment="ada").check(ImageSpec((8, 8, 4), 0, 100))
    with caplog.at_level(logging.INFO):
        dcgan_fashion.Config(augment="flip").check(ImageSpec((8, 8, 1), 0, 100))
    assert "half of the images are mirrored (--augment flip)" in caplog.text
