"""Settings of experiments that do not fit each other or the images are refused by their flags."""

import logging
from dataclasses import replace

import jax
import pytest

from experiments import (
    autoencoder_fashion,
    classifier,
    dcgan_fashion,
    ddpm_cifar10,
    ddpm_fashion,
    ddpm_mnist,
    dit,
    flow_cifar10,
    latent_diffusion,
    latent_shapes,
    meanflow,
    pixelcnn,
    shortcut,
    vae_cifar10,
    vae_fashion,
    vdvae,
    vqvae,
)
from experiments.kl_autoencoder import AutoencoderSettings
from genjax.data import ImageSpec
from genjax.errors import ConfigError
from genjax.run import config as run_config
from genjax.run import evaluation
from genjax.train.optimizers import Optimizer

FASHION, COLOUR = ImageSpec((28, 28, 1), 10, 6000), ImageSpec((32, 32, 3), 10, 50_000)
UNLABELLED = replace(FASHION, classes=0)


@pytest.mark.parametrize(
    ("module", "spec", "changes", "message"),
    [
        (ddpm_fashion, COLOUR, {"attention": (14,)}, "--attention 14 is .* there are 32, 16, 8"),
        (ddpm_fashion, FASHION, {"attention": (7, 9)}, "--attention 9 is the height of no level"),
        (ddpm_fashion, FASHION, {"decay": 50}, "--decay 50 must be above --warm-up 100"),
        (ddpm_fashion, FASHION, {"levels": 20}, "--levels must be above 20"),
        (ddpm_fashion, FASHION, {"levels": 30}, "--sampling-steps 50 .* at most --levels 30"),
        (ddpm_fashion, FASHION, {"levels": 100, "scaled_betas": False}, "--no-scaled-betas"),
        (ddpm_fashion, FASHION, {"guidance": 3.0}, "--guidance 3.0 has no effect without --cla"),
        (ddpm_fashion, FASHION, {"sampler": "ancestral", "sampling_steps": 9}, "no effect on"),
        (ddpm_fashion, UNLABELLED, {"classes": True}, "--classes: these images have none"),
        (ddpm_fashion, FASHION, {"channels": 15}, "--channels must be even"),
        (ddpm_fashion, FASHION, {"groups": 5}, "--groups 5 does not divide the 16 channels"),
        (ddpm_fashion, FASHION, {"head_features": 24}, "--head-features 24 does not divide"),
        (ddpm_fashion, FASHION, {"multipliers": (1, 1, 1, 1)}, "--multipliers halves images 3"),
        (classifier, UNLABELLED, {}, "--data: a classifier needs images of two classes or more"),
        (flow_cifar10, COLOUR, {"attention": (7,)}, "--attention 7"),
        (dit, FASHION, {"patch": 3}, "--patch 3 does not .* 28x28: .* --data.size 27"),
        (dit, FASHION, {"heads": 3}, "--heads 3 does not divide --width 128"),
        (dit, FASHION, {"width": 130, "heads": 1}, "--width must be a multiple of 4, not 130"),
        (dit, FASHION, {"width": 36, "heads": 2}, "--width 36 over --heads 2 must be a multiple"),
        (dit, FASHION, {"bottleneck": 128}, "--bottleneck 128 is none: .* below --width 128"),
        (dit, FASHION, {"bottleneck": 17}, "--bottleneck 17 is none: a patch has 16 numbers"),
        (dit, FASHION, {"context": 4}, "--context 4 has no effect without --classes"),
        (dit, FASHION, {"context_start": 1}, "--context-start 1 has no effect without --context"),
        (
            dit,
            FASHION,
            {"classes": True, "context": 1, "context_start": 6},
            "--context-start 6 must be below --depth 6",
        ),
        (
            dit,
            FASHION,
            {"classes": True, "context": 1, "context_start": 1, "skips": True},
            "--context-start must be 0 with --skips",
        ),
        (dit, FASHION, {"skips": True, "depth": 1}, "--skips needs --depth 2 or more"),
        (dit, FASHION, {"times_mean": None, "times_std": 0.5}, "--times-std 0.5 has no effect"),
        (dit, FASHION, {"guidance": 3.0}, "--guidance 3.0 has no effect without --classes"),
        (dit, UNLABELLED, {"classes": True}, "--classes: these images have none"),
        (shortcut, FASHION, {"max_steps": 12}, "--max-steps must be .* from 2, not 12"),
        (shortcut, FASHION, {"max_steps": 1}, "--max-steps must be a power of 2"),
        (shortcut, FASHION, {"every": 5}, "--every 5 must divide --run.batch 32"),
        (
            shortcut,
            FASHION,
            {"every": 16, "run": replace(shortcut.Config().run, devices=4)},
            "--every 16 must divide the 8 images that a device computes at once of --run.batch 32",
        ),
        (
            shortcut,
            FASHION,
            {
                "optimizer": Optimizer(microbatches=16),
                "run": replace(shortcut.Config().run, devices=1),
            },
            "--every 4 must divide the 2 images",
        ),
        (meanflow, FASHION, {"guidance": 3.0}, "--guidance 3.0 has no effect without --classes"),
        (meanflow, FASHION, {"patch": 3}, "--patch 3 does not divide images of 28x28"),
        (
            dit,
            FASHION,
            {"optimizer": Optimizer("lion"), "b2": 0.9},
            "--b2 0.9 has no effect with --optimizer.name lion",
        ),
        (dcgan_fashion, FASHION, {"widths": (8, 8, 8, 8)}, "--widths halves images 3 times"),
        (vae_cifar10, COLOUR, {"widths": (8,) * 6}, "--widths halves images 6 times"),
        (latent_shapes, FASHION, {"widths": (8, 8, 8)}, "--widths halves images 3 times"),
        (latent_diffusion, FASHION, {}, "with --multipliers halves images 3 .*size 24"),
        (
            latent_diffusion,
            ImageSpec((30, 30, 3), 0, 9),
            {},
            "--autoencoder.multipliers halves images 2 times",
        ),
        (
            latent_diffusion,
            FASHION,
            {"prior": "dit"},
            "--patch 2 does not divide latents of 7x7: give another, or --data.size 24",
        ),
        (latent_diffusion, COLOUR, {"width": 64}, "--width 64 has no effect with --prior edm"),
        (
            latent_diffusion,
            COLOUR,
            {"prior": "dit", "channels": 8},
            "--channels 8 has no effect with --prior dit",
        ),
        (
            latent_diffusion,
            COLOUR,
            {"prior": "dit", "noise_mean": 0.0},
            "--noise-mean 0.0 has no effect with --prior dit",
        ),
        (
            latent_diffusion,
            ImageSpec((16, 16, 3), 0, 9),
            {"autoencoder": AutoencoderSettings(critic=True), "attention": ()},
            "--autoencoder.critic-layers 3 halve images of 16 pixels .* or --data.size 24",
        ),
        (
            latent_diffusion,
            ImageSpec((16, 16, 3), 0, 9),
            {"autoencoder": AutoencoderSettings(perceptual="alexnet"), "attention": ()},
            "--autoencoder.perceptual alexnet takes grey or RGB images from 31 pixels",
        ),
        (vqvae, ImageSpec((30, 30, 3), 0, 9), {}, "--autoencoder.halvings halves images 2 times"),
        (vqvae, FASHION, {"width": 20}, "--width 20 over --heads 4 must be a multiple of 4"),
        (vqvae, FASHION, {"top_k": 129}, "--top-k 129: a codebook has 128 codes"),
        (
            vqvae,
            FASHION,
            {"top_k": 2, "temperature": 0.0},
            "--top-k has no effect with --temperature 0",
        ),
        (
            vqvae,
            FASHION,
            {"autoencoder": vqvae.AutoencoderSettings(depth=3)},
            "--autoencoder.depth 3 has no effect with --quantizer vq",
        ),
        (
            vqvae,
            FASHION,
            {"quantizer": "residual", "autoencoder": vqvae.AutoencoderSettings(levels=(5, 5))},
            "--autoencoder.levels 5 5 has no effect with --quantizer residual",
        ),
        (
            vqvae,
            FASHION,
            {"quantizer": "fsq", "autoencoder": vqvae.AutoencoderSettings(levels=(8, 2))},
            "--autoencoder.levels 8 2 must be 3 or more each",
        ),
        (pixelcnn, COLOUR, {"binary": True}, "--binary takes --data.channels 1, not 3"),
        (
            pixelcnn,
            FASHION,
            {"binary": True, "mixture": 3},
            "--mixture 3 has no effect with --binary",
        ),
        (pixelcnn, FASHION, {"decay": 50}, "--decay 50 must be above --warm-up 100"),
        (pixelcnn, UNLABELLED, {"classes": True}, "--classes: these images have none"),
        (vae_fashion, FASHION, {"conv": True, "hidden": 9}, "--hidden 9 has no effect with --conv"),
        (autoencoder_fashion, ImageSpec((6, 6, 1), 0, 9), {"conv": True}, "--conv halves images"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_their_flags(module, spec, changes, message):
    module.Config().check(FASHION if spec is UNLABELLED else COLOUR)
    with pytest.raises(ConfigError, match=message):
        replace(module.Config(), **changes).check(spec)


def test_blocks_and_poolings_of_the_very_deep_vae_fit_each_other_and_the_images():
    vdvae.Config().check(FASHION)
    vdvae.PAPER.check(COLOUR)
    with pytest.raises(
        ConfigError, match=r"to 3 resolutions: give as many --encoder-blocks, not 4"
    ):
        vdvae.Config(pooling=(2, 2)).check(FASHION)
    with pytest.raises(ConfigError, match=r"28 times smaller, .* 32x32 .*, or --data.size 28"):
        vdvae.Config().check(COLOUR)
    with pytest.raises(ConfigError, match="--classes: these images have none"):
        vdvae.Config(classes=True).check(UNLABELLED)


def test_defaults_that_do_not_fit_the_images_are_logged(caplog):
    ddpm_fashion.Config().check(FASHION)
    assert not caplog.records
    ddpm_fashion.Config().check(COLOUR)
    assert "no level is --attention 7 pixels high (there are 32, 16, 8)" in caplog.text
    short = ddpm_fashion.Config()
    replace(short, run=replace(short.run, steps=100)).check(FASHION)
    assert "--warm-up 100 is not over by --run.steps 100" in caplog.text
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def rate(config, step):
    """The learning rate of the step after `step`, read off Adam's first update, which is ± it."""
    family = ddpm_fashion.build(config, ImageSpec((8, 8, 1), 10, 100))
    optimizer = family.game["unet"].optimizer
    state = optimizer.init(jax.numpy.zeros(()))
    state = jax.tree.map(lambda x: x + step if x.dtype == jax.numpy.int32 else x, state)
    update, _ = optimizer.update(jax.numpy.ones(()), state)
    return abs(float(update))


def test_the_rate_falls_by_the_last_step_of_the_run_unless_told_otherwise():
    small = ddpm_fashion.Config(channels=8, multipliers=(1,), attention=())

    def fraction(steps, at, **changes):
        config = replace(small, run=replace(small.run, steps=steps), **changes)
        # At step 0 of Adam's own count, whose bias corrections the quotient cancels.
        constant = replace(config, decay=None)
        return rate(config, at) / rate(constant, at)

    assert fraction(1800, 1800) == pytest.approx(1 / 20, rel=1e-3)
    assert fraction(3600, 1800) > 0.4
    assert fraction(3600, 3600) == pytest.approx(1 / 20, rel=1e-3)
    assert fraction(3600, 3600, decay=1800) == pytest.approx(1 / 20, rel=1e-3)
    assert fraction(3600, 3600, decay=None) == 1
    assert fraction(50, 50) == 1  # shorter than the warm-up: it rises alone


def recorded(**values):
    """A config.json's settings of an earlier version: no `scaled_betas`, the decay a number."""
    plain = run_config.as_json(run_config.dataclasses.asdict(ddpm_fashion.Config()))
    del plain["scaled_betas"]
    return {**plain, "decay": 1800, **values}


def test_an_earlier_run_means_what_it_meant():
    thousand = run_config.parse(ddpm_fashion.Config, recorded(), "x")
    hundred = run_config.parse(ddpm_fashion.Config, recorded(levels=100), "x")
    assert (thousand.scaled_betas, hundred.scaled_betas) == (True, False)
    family = ddpm_fashion.build(hundred, FASHION)  # opened, not refused
    assert family.latent == FASHION.shape


def difference(old, new):
    before = run_config.parse(ddpm_fashion.Config, old, "x")
    as_json = run_config.as_json
    asdict = run_config.dataclasses.asdict
    found = run_config.differences(as_json(asdict(before)), as_json(asdict(new)))
    return next(map(str, found), None)


def test_an_earlier_run_resumes_by_the_same_command():
    config = ddpm_fashion.Config()
    assert difference(recorded(), config) is None
    longer = replace(config, run=replace(config.run, steps=3600))
    assert difference(recorded(), longer) == "--decay was 1800, now 3600"
    assert difference(recorded(), replace(longer, decay=1800)) is None
    assert difference(run_config.as_json(run_config.dataclasses.asdict(config)), longer) is None
    hundred = replace(config, levels=100)
    assert difference(recorded(levels=100), hundred) == "--scaled-betas was False, now True"
    assert difference(recorded(levels=100), replace(hundred, scaled_betas=False)) is None


@pytest.mark.parametrize("module", [ddpm_mnist, ddpm_cifar10])
def test_the_paper_runs_check_themselves(module):
    module.Config().check(FASHION if module is ddpm_mnist else COLOUR)


def test_one_image_is_no_evaluation(monkeypatch):
    with pytest.raises(ConfigError, match="--n 1: a standard error needs two images"):
        evaluation.evaluate(None, None, range(9), n=1)
