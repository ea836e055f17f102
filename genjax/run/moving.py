"""Real images moved through a decoder's latents: to another class, along an attribute, between."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax import keys
from genjax.diffusion import steps
from genjax.edit import directions, inversion, projection, translation
from genjax.edit.interpolation import linear
from genjax.edit.operator import Operator
from genjax.errors import ConfigError, shortened
from genjax.run import edit_effect
from genjax.run.altering import denoiser_of, every, in_chunks, predictor, solver_settings
from genjax.run.editable import Denoiser
from genjax.run.edited_run import EditedRun
from genjax.run.sampling import labels

STEPS, ITERATIONS = 40, 5  # of the exact inversion: 3e-4 per pixel on a U-Net of Fashion-MNIST
MOST = 5_000  # training images whose codes a direction is found from
SAMPLED = 2_000  # samples whose latents it is found from
_CHUNK = 100


def latents_of(run: EditedRun, images: np.ndarray, label: int | None = None) -> jax.Array:
    """Latents that a decoder makes images of: by the encoder or the family's inversion, else by
    projection.

    Args:
      run: the trained run.
      images: uint8 [m, H, W, C].
      label: the class of all images, where the family takes one.

    Returns:
      [m, *latent].

    Raises:
      ConfigError: where the family's latents are no vectors, or its class is not given.
    """
    family, state = run.family, run.usable_state
    if family.encode is not None:
        encode = jax.jit(family.encode)
        blocks = range(0, len(images), _CHUNK)
        return jnp.concatenate([encode(state, images[i : i + _CHUNK]) for i in blocks])
    each = keys.per_example(jax.random.key(0), len(images))
    if family.invert is not None:
        _check_class(run, label)
        return jax.jit(family.invert)(state, each, images, every(label, len(images)))
    if family.generate is None or family.latent is None:
        raise ConfigError("the latents of this family are no vectors: no image's can be found")
    _check_class(run, label)
    generate, latent = family.generate, family.latent
    shape = images.shape[1:]

    @jax.jit
    def project(state: Any, each: jax.Array, image: jax.Array) -> jax.Array:
        def decode(z: jax.Array) -> jax.Array:
            return generate(state, each, z, every(label, len(z)))

        same = Operator(lambda x: x, shape, gram=1.0)
        return projection.project(decode, each, image / 255, same, latent=latent).z

    return project(state, each, jnp.asarray(images))


def _check_class(run: EditedRun, label: int | None) -> None:
    if run.family.classes and label is None:
        raise ConfigError("this family draws by class: say which the images have by --label")


def decoded(run: EditedRun, latents: jax.Array, label: int | None = None) -> np.ndarray:
    """Images of latents.

    Args:
      run: the trained run.
      latents: [m, *latent].
      label: the class of all images, where the family takes one.

    Returns:
      uint8 [m, H, W, C].

    Raises:
      ConfigError: where the family takes a class and none is given.
    """
    _check_class(run, label)
    generate = run.family.generate
    assert generate is not None

    def some(state: Any, each: jax.Array, z: jax.Array) -> jax.Array:
        return generate(state, each, z, every(label, len(z)))

    return in_chunks(run, some, latents, 0)


def relabel(run: EditedRun, images: np.ndarray, to: int, *, label: int | None = None) -> np.ndarray:
    """Images as they would be were they of another class.

    A diffusion model inverts its sampler under the images' own class and samples from the noise
    that it finds under the other; a decoder that takes a class decodes the image's code under it.

    Args:
      run: the trained run of a family that takes classes.
      images: uint8 [m, H, W, C].
      to: the class to come to.
      label: the class of all images; None for none in particular.

    Returns:
      uint8 [m, H, W, C].

    Raises:
      ConfigError: where the family takes no classes, has not these, or cannot find the latents of
        an image.
    """
    family = run.family
    if not family.classes:
        raise ConfigError(
            "this family takes no classes, so that none can be changed: train one that does, such "
            "as `python -m experiments.ddpm_fashion --classes`, or give --toward with a decoder"
        )
    for each in (to, label):
        labels(family, 0, each)
    if (denoiser := family.denoiser) is None:
        return decoded(run, latents_of(run, images, label), to)
    how = _inversion(denoiser)

    def altered(state: Any, each: jax.Array, image: jax.Array) -> jax.Array:
        x = denoiser.encode(state, image)
        ours, theirs = (predictor(denoiser, state, k) for k in (label, to))
        found = translation.translate(ours, theirs, x, iterations=ITERATIONS, **how)
        return denoiser.decode(state, each, found)

    return in_chunks(run, altered, images, 0)


def _inversion(denoiser: Denoiser) -> dict[str, Any]:
    """Steps that are short near the data: by those of equal length 0.05 per pixel would be lost."""
    grid = steps.karras(STEPS, schedule=denoiser.schedule, sigma_min=0.01)
    return {**solver_settings(denoiser), "steps": grid}


def bridge(
    run: EditedRun, other: EditedRun, images: np.ndarray, *, label: int | None = None
) -> np.ndarray:
    """Images of one model made into images of another: to noise by the first, back by the other.

    Args:
      run: the trained run of a diffusion or flow model, of such images.
      other: another, of images of the same shape.
      images: uint8 [m, H, W, C].
      label: the class of all images in both, where they take one; None for none in particular.

    Returns:
      uint8 [m, H, W, C]; the images themselves where both runs are one.

    Raises:
      ConfigError: where one of them does not denoise, or their images have different shapes.
    """
    if run.spec.shape != other.spec.shape:
        sizes = ["x".join(map(str, each.spec.shape)) for each in (run, other)]
        raise ConfigError(f"--to-run: its images are {sizes[1]}, those of this run {sizes[0]}")
    first, last = (denoiser_of(each, "--to-run") for each in (run, other))
    for each in (run, other):
        labels(each.family, 0, label)
    their = {"other_schedule": last.schedule, "other_target": last.target}
    how = {"iterations": ITERATIONS, **_inversion(first), **their}

    def altered(state: Any, each: jax.Array, image: jax.Array) -> jax.Array:
        both = zip((first, last), state, strict=True)
        ours, theirs = (predictor(denoiser, part, label) for denoiser, part in both)
        x = first.encode(state[0], image)
        return last.decode(state[1], each, translation.translate(ours, theirs, x, **how))

    return in_chunks(run, altered, images, 0, (run.usable_state, other.usable_state))


def toward(
    run: EditedRun,
    images: np.ndarray,
    attribute: str,
    *,
    label: int | None = None,
    classifier: str | None = None,
) -> tuple[np.ndarray, str]:
    """Images moved along the direction in which those of a class of the data lie.

    The direction is that of a linear probe of the codes of labelled images, or, where the family
    has no encoder, of the latents of its samples, as a classifier sees them.

    Args:
      run: the trained run of a family of latents that are vectors.
      images: uint8 [m, H, W, C].
      attribute: "CLASS=STEP", the step in standard deviations of latents along the direction.
      label: the class of all images, where the family takes one.
      classifier: the folder of an exported classifier of the data; needed without an encoder.

    Returns:
      uint8 [m, H, W, C], and what is known of the direction.

    Raises:
      ConfigError: where it is not so written, or there is no such class, no label, neither an
        encoder nor a classifier, or hardly any sample that is of the class, or of none but it.

    References:
      Shen et al., "InterFaceGAN: Interpreting the Disentangled Face Representation Learned by GANs"
      (2020), arXiv:1907.10786.
    """
    name, _, text = attribute.rpartition("=")
    training = run.images.train
    try:
        step = float(text)
    except ValueError:
        step = float("nan")
    if not name or not np.isfinite(step):
        raise ConfigError(f"--toward {attribute}: give a class and a step, such as coat=1.5")
    if not training.labelled or name not in training.classes:
        known = shortened(list(training.classes)) or "none, as the images have no labels"
        raise ConfigError(f"--toward {attribute}: {name} is not a class of the data: {known}")
    number = training.classes.index(name)
    if run.family.encode is not None:
        batch = training.batch(0, 0, min(MOST, len(training)))
        codes, has, what = latents_of(run, batch["image"]), batch["label"] == number, "codes"
    else:
        codes, has = _seen_in_samples(run, number, label, classifier)
        what = "latents"
    if not 5 <= has.sum() <= len(has) - 5:
        raise ConfigError(
            f"--toward {attribute}: {has.sum():,} of {len(has):,} {what} are of {name}, which is "
            "no direction"
        )
    probe = directions.linear_probe(codes, has)
    moved = latents_of(run, images, label) + step * probe.direction[None]
    told = (
        f"direction of {name} from {len(codes):,} {what}: a linear probe of it is right on "
        f"{float(probe.accuracy):.1%} of held-out {what}, always saying the same on "
        f"{float(probe.chance):.1%}"
    )
    return decoded(run, moved, label), told


def _seen_in_samples(
    run: EditedRun, number: int, label: int | None, classifier: str | None
) -> tuple[jax.Array, np.ndarray]:
    """Latents that the run draws, and whether a classifier sees a class in their images."""
    family = run.family
    if family.generate is None or family.latent is None or family.denoiser or family.invert:
        raise ConfigError(
            "--toward needs latents that are drawn as they are edited, and this family has none: "
            "take an autoencoder, a VAE or a GAN, or --to-label in a family that takes classes"
        )
    if classifier is None:
        raise ConfigError(
            "--toward: this family has no encoder, so that a classifier must say what its samples "
            "are: give --classifier, the folder of an export of experiments.classifier"
        )
    z = jax.random.normal(jax.random.key(0), (SAMPLED, *family.latent))
    names = run.images.train.classes
    seen, _ = edit_effect.probabilities(classifier, decoded(run, z, label), names)
    return z, seen.argmax(1) == number


def between(run: EditedRun, images: np.ndarray, n: int, *, label: int | None = None) -> np.ndarray:
    """Images on the way between pairs of real ones.

    A diffusion model goes by a great arc between the noises that its sampler makes them of, and
    reaches both exactly; a decoder by the straight line between their latents, and reaches what it
    makes of them.

    Args:
      run: the trained run.
      images: uint8 [2 p, H, W, C], pair by pair.
      n: images per pair, both ends included.
      label: the class of all images, where the family takes one.

    Returns:
      uint8 [p * n, H, W, C], path by path.

    Raises:
      ConfigError: where their number is odd, or the family cannot find the latents of an image.
    """
    if len(images) % 2 or not len(images):
        raise ConfigError(f"images are taken in pairs: give an even number, not {len(images)}")
    t = jnp.linspace(0, 1, n)
    if (denoiser := run.family.denoiser) is None:
        z = latents_of(run, images, label)
        paths = [linear(z[i], z[i + 1], t) for i in range(0, len(images), 2)]
        return decoded(run, jnp.concatenate(paths), label)
    how = _inversion(denoiser)

    def paths_of(state: Any, each: jax.Array, both: jax.Array) -> jax.Array:
        predict = predictor(denoiser, state, label)
        first, last = (denoiser.encode(state, both[:, i]) for i in (0, 1))
        found = inversion.interpolate(predict, first, last, t, iterations=ITERATIONS, **how)
        return jnp.moveaxis(jax.lax.map(lambda x: denoiser.decode(state, each, x), found), 0, 1)

    pairs = images.reshape(-1, 2, *images.shape[1:])
    return in_chunks(run, paths_of, pairs, 0).reshape(-1, *images.shape[1:])
