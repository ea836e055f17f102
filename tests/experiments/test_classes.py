"""A conditional family draws the class it is asked for: dark images of class 0, bright of 1."""

from dataclasses import replace

import numpy as np
import pytest

from experiments import dcgan_fashion, gan_fashion, vae_fashion
from genjax import data, run
from genjax.errors import ConfigError, GenjaxError

CONFIGS = {
    "vae": (vae_fashion, vae_fashion.Config(latent=2, hidden=16, learning_rate=5e-3), 300),
    "gan": (gan_fashion, gan_fashion.Config(latent=2, hidden=16, learning_rate=2e-3), 300),
    "dcgan": (
        dcgan_fashion,
        dcgan_fashion.Config(latent=2, widths=(8, 4, 4), learning_rate=2e-3, ema=0.9),
        150,
    ),
}
PER_CLASS, SHADES = 32, (48, 208)


def shades():
    """Dark and bright images with some noise, in turn."""
    label = np.arange(2 * PER_CLASS) % 2
    noise = np.random.default_rng(0).integers(-32, 32, (len(label), 8, 8, 1))
    image = (np.array(SHADES)[label][:, None, None, None] + noise).astype(np.uint8)
    return data.from_arrays(image[:48], label[:48], test=(image[48:], label[48:]))


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_a_conditional_model_draws_the_class_it_is_asked_for(name, tmp_path):
    experiment, config, steps = CONFIGS[name]
    images = shades()
    settings = replace(
        config.run, steps=steps, batch=16, every=steps, samples=4, devices=1, dir=str(tmp_path)
    )
    family = experiment.build(replace(config, classes=True, run=settings), images.spec)
    assert family.classes == 2
    trained = run.train(family, images, settings)
    dark, bright = (trained.sample(4, seed=3, label=label) for label in (0, 1))
    assert dark.mean() < 100
    assert bright.mean() > 156
    np.testing.assert_array_equal(trained.sample(4, seed=3)[[0, 2]], dark[[0, 2]])
    with pytest.raises(ConfigError, match="--label 2 is not a class of this run: 0 to 1"):
        trained.sample(4, label=2)
    assert trained.interpolate(2, 3).shape == (6, 8, 8, 1)
    if family.encode is not None:
        batch = trained.held_out_batch(4)
        own = trained.reconstruct(batch["image"], batch["label"]).astype(int)
        other = trained.reconstruct(batch["image"], 1 - batch["label"]).astype(int)
        assert abs(own - batch["image"]).mean() < 40 < abs(own - other).mean()


@pytest.mark.parametrize("experiment", [vae_fashion, gan_fashion, dcgan_fashion])
def test_classes_need_labels(experiment):
    config = experiment.Config(classes=True)
    unlabelled = data.ImageSpec((8, 8, 1), 0, 10)
    with pytest.raises(ConfigError, match="--classes: these images have none"):
        config.check(unlabelled)
    with pytest.raises(GenjaxError, match="--classes needs images of several classes"):
        experiment.build(config, unlabelled)
