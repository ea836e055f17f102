"""Edits of real images by a trained run: each kind with a denoiser and a decoder, and refusals."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from genjax import data
from genjax.diffusion import predictions, schedules, steps
from genjax.errors import ConfigError
from genjax.evaluate.features.network import FeatureNetwork
from genjax.run import Denoiser, Family, RestoredRun, edit_effect
from genjax.run.edit_settings import Edit
from genjax.run.family import untrained_state

SHAPE = (8, 8, 1)
SCHEDULE = schedules.Cosine()
_random = np.random.default_rng(0)
MEANS = np.array([-0.5, 0.4], np.float32)  # of the images of two classes, in −1..1
STD = 0.2


def image(brightness):
    """A smooth image of a brightness in −1..1: what follows from any part of it."""
    ramp = np.linspace(-0.3, 0.3, 8)
    return np.clip(brightness + ramp[:, None] + 0 * ramp[None], -1, 1)[..., None]


LABEL = np.arange(40) % 2
BRIGHTNESS = MEANS[LABEL] + STD * _random.normal(size=40)
PIXELS = np.rint(127.5 * (np.stack([image(b) for b in BRIGHTNESS]) + 1)).astype(np.uint8)


def ideal(label, centres=MEANS):
    """E[x | z] where an image is a ramp of a normal brightness, of one class or of both."""
    ramp = jnp.asarray(image(0.0), jnp.float32)[None]

    def predict(z, t):
        a, s = (f(t)[:, None] for f in (SCHEDULE.alpha, SCHEDULE.sigma))
        seen = (z - a[:, :, None, None] * ramp).mean((1, 2, 3))[:, None]  # a b + s ε / 8
        noise = (s / 8) ** 2
        means, variance = jnp.asarray(centres)[None], STD**2
        log = -0.5 * (seen - a * means) ** 2 / (a**2 * variance + noise)
        weight = jax.nn.softmax(log, 1)
        if label is not None:
            weight = jax.nn.one_hot(label, 2)
        gain = a * variance / (a**2 * variance + noise)
        b = (weight * (means + gain * (seen - a * means))).sum(1)
        return b[:, None, None, None] + ramp

    return predict


def denoising(centres=MEANS, **more):
    denoiser = Denoiser(
        predict=lambda state, label: ideal(label, centres),
        schedule=SCHEDULE,
        target=predictions.data,
        steps=lambda: steps.linear(30),
        clip=(-1, 1),
        encode=lambda state, x: x / 127.5 - 1,
        decode=lambda state, keys, x: (x + 1) / 2,
    )
    how = {"latent": SHAPE, "denoiser": denoiser, "classes": 2, **more}
    return Family({}, lambda key, before: ({}, {}), lambda *of: of[2], **how)


def decoding(**more):
    ramp = jnp.asarray(image(0.0), jnp.float32)[None]

    def generate(state, keys, z, label):
        return (jnp.broadcast_to(z[:, :, None, None] * 0.4, (len(z), 8, 8, 1)) + ramp + 1) / 2

    def encode(state, x):
        return (x / 127.5 - 1).mean((1, 2, 3))[:, None] / 0.4

    how = {"latent": (1,), "encode": encode, **more}
    return Family({}, lambda key, before: ({}, {}), generate, **how)


def opened(family, train=PIXELS, labels=LABEL, names=("dark", "bright")):
    images = data.from_arrays(train, labels, test=(PIXELS[:12], LABEL[:12]), names=names)
    about = {"shape": list(SHAPE), "classes": 2, "count": len(train), "names": list(names)}
    state = untrained_state(family, jax.random.key(0))
    return RestoredRun(Path("any"), family, {"images": about}, state, images)


DIFFUSION, DECODER = opened(denoising()), opened(decoding())


def brightness(images):
    return images.mean((-3, -2, -1)) / 127.5 - 1


@pytest.mark.parametrize("solver", [None, "ddnm", "repaint", "dps"])
def test_a_denoiser_fills_in_what_is_hidden(solver):
    """Half of a ramp says what the other half is; what is left is the solver's approximation."""
    found = DIFFUSION.edit(PIXELS[:3], hide="right", n=2, solver=solver)
    assert found.images.shape == (3, 2, *SHAPE)
    off = brightness(found.images) - brightness(PIXELS[:3])[:, None]
    assert np.abs(off).max() < 0.08  # other images of the class are 0.2 off
    assert (found.before[:, :, 4:] == 128).all()
    np.testing.assert_array_equal(found.before[:, :, :4], PIXELS[:3, :, :4])
    np.testing.assert_array_equal(found.truth, PIXELS[:3])
    assert found.spread.shape == (3, 8, 8)
    assert "filled in: the right half" in found.lines
    assert any("PSNR of one answer" in line for line in found.lines)
    assert any("of the pixels that were hidden, over 3 images" in line for line in found.lines)


@pytest.mark.parametrize("solver", [None, "maximum"])
def test_a_decoder_explains_what_was_observed(solver):
    found = DECODER.edit(PIXELS[:3], task="super2", n=3, solver=solver)
    assert found.images.shape == (3, 3, *SHAPE)
    assert np.abs(brightness(found.images) - brightness(PIXELS[:3])[:, None]).max() < 0.1
    (line,) = (line for line in found.lines if line.startswith("solver: "))
    assert ("misfit" if solver else "R-hat") in line


def test_answers_are_those_of_their_seed_and_image_alone():
    one = DIFFUSION.edit(PIXELS[:3], hide="top", n=2, seed=1).images
    np.testing.assert_array_equal(
        one[:1], DIFFUSION.edit(PIXELS[:1], hide="top", n=2, seed=1).images
    )
    assert (one != DIFFUSION.edit(PIXELS[:3], hide="top", n=2, seed=2).images).any()


def test_held_out_images_are_edited_where_none_are_given():
    found = DIFFUSION.edit(task="denoise", n=1)
    assert found.images.shape == (4, 1, *SHAPE)
    assert found.spread is None
    assert "noise of 0.1 (of a range of 1)" in found.lines


def test_strength_0_returns_the_images_and_1_forgets_them():
    np.testing.assert_array_equal(
        DIFFUSION.edit(PIXELS[:2], strength=0, n=3).images, np.repeat(PIXELS[:2, None], 3, 1)
    )
    bright = PIXELS[BRIGHTNESS > 0][:1]
    free = DIFFUSION.edit(bright, strength=1, n=16).images
    assert brightness(free).std() > 0.2  # of both classes
    near = DIFFUSION.edit(bright, strength=0.2, n=16).images
    assert np.abs(brightness(near) - brightness(bright)).max() < 0.25


def test_a_label_becomes_another():
    dark = PIXELS[LABEL == 0][:3]
    found = DIFFUSION.edit(dark, label="dark", to_label="bright").images[:, 0]
    # The class's mean moves, and how far the image was from it stays.
    np.testing.assert_allclose(brightness(found) - brightness(dark), np.diff(MEANS)[0], atol=0.05)
    same = DIFFUSION.edit(dark, label="dark", to_label="dark").images[:, 0]
    assert np.abs(same.astype(int) - dark).max() <= 1  # a grey level of rounding


def test_an_image_of_one_run_becomes_one_of_another_and_comes_back():
    dark = PIXELS[LABEL == 0][:3]
    brighter = opened(denoising(MEANS + 0.5))  # both normal, of one deviation: a shift by 0.5
    found = DIFFUSION.edit(dark, label="dark", to_run=brighter).images[:, 0]
    np.testing.assert_allclose(found - dark.astype(float), 127.5 * 0.5, atol=4)
    again = brighter.edit(found, label="dark", to_run=DIFFUSION).images[:, 0]
    np.testing.assert_allclose(again.astype(float), dark, atol=2)
    with pytest.raises(ConfigError, match="--to-run needs a family that denoises"):
        DIFFUSION.edit(dark, to_run=DECODER)


def logits(images):  # bright where the mean is high
    level = images.mean((1, 2, 3)) / 32
    return jnp.stack([4 - level, level - 4], 1)


@pytest.fixture
def classifier(monkeypatch):
    network = FeatureNetwork("classifier of ramps", None, "none", 1, logits, logits)
    monkeypatch.setattr(edit_effect, "load_classifier", lambda folder: network)
    return "folder"


def test_a_classifier_says_what_became_of_the_classes(classifier):
    dark = PIXELS[LABEL == 0][:3]
    how = {"label": "dark", "to_label": "bright", "classifier": classifier}
    (line,) = DIFFUSION.edit(dark, **how).lines
    before, after = (
        float(jax.nn.softmax(logits(jnp.asarray(x, jnp.float32)))[:, 1].mean())
        for x in (dark, DIFFUSION.edit(dark, label="dark", to_label="bright").images[:, 0])
    )
    assert before < 0.4 < 0.6 < after
    told = f"bright by classifier of ramps: {before:.2f} before, {after:.2f} after, the mean of 3"
    assert line.startswith(told)
    assert line.endswith(f"what else changed most: dark {before - after:+.2f}")


def test_a_decoder_takes_the_label_of_what_it_decodes():
    family = decoding(classes=2)
    inner = family.generate

    def generate(state, keys, z, label):
        return inner(state, keys, z, label) + 0.25 * (label == 1)[:, None, None, None]

    run = opened(replace(family, generate=generate))
    dark = PIXELS[LABEL == 0][:2]
    found = run.edit(dark, to_label="bright").images[:, 0]
    np.testing.assert_allclose(brightness(found) - brightness(dark), 0.5, atol=0.02)


def test_codes_move_toward_a_class_by_its_direction():
    dark = PIXELS[LABEL == 0][:2]
    found = DECODER.edit(dark, toward="bright=1.0")
    step = brightness(found.images[:, 0]) - brightness(dark)
    codes = brightness(opened(decoding()).images.train.batch(0, 0, 40)["image"])
    np.testing.assert_allclose(step, codes.std(), rtol=0.1)
    assert "of held-out codes" in found.lines[-1]


@pytest.mark.parametrize("classes", [None, 2])
def test_without_an_encoder_the_direction_is_that_of_samples_of_the_class(classes, classifier):
    run, dark = opened(replace(decoding(classes=classes), encode=None)), PIXELS[LABEL == 0][:2]
    label = classes and "dark"
    found = run.edit(dark, toward="bright=1.5", classifier=classifier, label=label)
    # A latent's deviation is 1, and of its images' brightness 0.4.
    step = brightness(found.images[:, 0]) - brightness(dark)
    np.testing.assert_allclose(step, 1.5 * 0.4, atol=0.04)
    direction, effect = found.lines
    assert direction.startswith("direction of bright from 2,000 latents: a linear probe")
    assert effect.startswith("bright by classifier of ramps: ")


def test_a_class_that_is_in_no_sample_has_no_direction(classifier, monkeypatch):
    run = opened(replace(decoding(), encode=None))
    always = FeatureNetwork("dark", None, "none", 1, logits, lambda x: logits(0 * x))
    monkeypatch.setattr(edit_effect, "load_classifier", lambda folder: always)
    for name, seen in (("bright", "0"), ("dark", "2,000")):
        with pytest.raises(ConfigError, match=f"{seen} of 2,000 latents are of {name}, which is"):
            run.edit(PIXELS[:1], toward=f"{name}=1", classifier=classifier)


def test_a_way_between_real_images_reaches_both_ends():
    ends = np.stack([PIXELS[0], PIXELS[1], PIXELS[2], PIXELS[3]])
    for run, exact in ((DIFFUSION, True), (DECODER, False)):
        path = run.interpolate(images=ends, steps=5).reshape(2, 5, *SHAPE)
        off = np.abs(path[:, [0, -1]].astype(int) - ends.reshape(2, 2, *SHAPE))
        assert off.max() <= (0 if exact else 1)
        bright = brightness(path)
        assert (np.diff(bright, axis=1) > 0).all()  # from dark to bright


def test_files_of_any_size_are_told(tmp_path):
    small, large = tmp_path / "small.png", tmp_path / "large.png"
    Image.fromarray(PIXELS[0, ::2, ::2, 0]).save(small)
    Image.fromarray(PIXELS[1, ..., 0].repeat(3, 0).repeat(3, 1)).save(large)
    found = DIFFUSION.edit([str(small)], task="super2", n=2)
    assert found.truth is None
    assert "no noise (--noise gives some)" in found.lines
    assert np.abs(brightness(found.images) - brightness(PIXELS[0])).max() < 0.05
    found = DIFFUSION.edit([str(large)], task="super2", clear=True, n=2)
    assert "large.png: resized from 24x24 to 8x8" in found.lines
    assert found.truth is not None


def test_a_mask_is_filled_in(tmp_path):
    mask = np.zeros((8, 8), np.uint8)
    mask[:, :4] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    spoiled = PIXELS[2, ..., 0].copy()
    spoiled[:, :4] = 7
    Image.fromarray(spoiled).save(tmp_path / "image.png")
    found = DIFFUSION.edit([str(tmp_path / "image.png")], mask=str(tmp_path / "mask.png"), n=2)
    assert np.abs(brightness(found.images) - brightness(PIXELS[2])).max() < 0.08
    assert found.truth is None


def test_the_sheet_has_a_row_per_image_and_its_columns():
    found = DIFFUSION.edit(PIXELS[:2], hide="left", n=3)
    sheet = found.sheet()
    assert sheet.shape[1] > (1 + 3 + 1 + 1) * 64
    assert sheet.shape[0] > 2 * 64


@pytest.mark.parametrize(
    ("run", "how", "said"),
    [
        (
            DIFFUSION,
            {},
            "--mask, --hide, --task, --strength, --to-label, --toward, --to-run",
        ),
        (DIFFUSION, {"hide": "left", "strength": 0.5}, "only one of --hide, --strength"),
        (DIFFUSION, {"strength": 1.5}, "--strength"),
        (DIFFUSION, {"strength": 0.5, "classifier": "x"}, "--classifier has no effect on"),
        (DIFFUSION, {"to_label": "dark", "classifier": "x"}, "x is no run directory"),
        (DIFFUSION, {"strength": 0.5, "solver": "ddnm"}, "--solver has no effect on --strength"),
        (DIFFUSION, {"hide": "left", "solver": "hmc"}, "--solver hmc is for decoders"),
        (DECODER, {"hide": "left", "solver": "ddnm"}, "--solver ddnm is for diffusion models"),
        (DIFFUSION, {"task": "jpeg", "solver": "ddnm"}, "needs a linear task: give --solver dps"),
        (
            DIFFUSION,
            {"task": "deblur", "solver": "repaint", "noise": 0.1},
            "--solver repaint takes noise with hidden pixels",
        ),
        (DIFFUSION, {"task": "colourise"}, "--task colourise: "),
        (DECODER, {"strength": 0.5}, "--strength needs a family that denoises"),
        (DECODER, {"to_label": "bright"}, "is not a class of this run: none"),
        (
            DIFFUSION,
            {"to_label": "green"},
            "--to-label green is not a class of this run: dark, bright",
        ),
        (DIFFUSION, {"toward": "bright=1"}, "take an autoencoder, a VAE or a GAN, or --to-label"),
        (
            opened(replace(decoding(), encode=None)),
            {"toward": "bright=1"},
            "this family has no encoder, .*: give --classifier",
        ),
        (DECODER, {"toward": "bright"}, "give a class and a step, such as coat=1.5"),
        (DECODER, {"toward": "green=1"}, "green is not a class of the data: dark, bright"),
        (opened(decoding(classes=2)), {"hide": "left"}, "say which by --label"),
    ],
)
def test_what_cannot_be_done_is_one_line(run, how, said):
    with pytest.raises(ConfigError, match=said):
        run.edit(PIXELS[:1], **how)


def test_images_of_another_shape_and_odd_numbers_are_refused():
    with pytest.raises(ConfigError, match=r"images must be uint8 \[m, 8, 8, 1\], not uint8 \(2, 4"):
        DIFFUSION.edit(PIXELS[:2, :4], hide="left")
    with pytest.raises(ConfigError, match="give an even number, not 3"):
        DIFFUSION.interpolate(images=PIXELS[:3])


def test_a_denoiser_of_codes_fills_in_nothing():
    family = denoising()
    run = opened(replace(family, denoiser=replace(family.denoiser, pixels=False)))
    with pytest.raises(ConfigError, match="this family denoises codes"):
        run.edit(PIXELS[:1], hide="left")


def test_the_name_of_an_edit():
    assert Edit(task="super2").called == "super2"
    assert Edit(to_label="a/b").called == "to_label"
