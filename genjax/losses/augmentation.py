"""Differentiable augmentations of images, for a critic that sees few real ones."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

Augment = Callable[[Array, Array], Array]  # (images [B, H, W, C], key) -> like images


def _images(images: Array) -> Array:
    if images.ndim != 4 or not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"images must be floats [B, H, W, C], got {images.dtype} {images.shape}: "
            "scale integers to floats and give a batch"
        )
    return images


def _uniform(key: Array, shape: tuple[int, ...]) -> Array:
    """U[0, 1) of a shape [B, ...], row i from key i alone where there is one key per example."""
    if key.ndim == (0 if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else 1):
        return jax.random.uniform(key, shape)
    if len(key) != shape[0]:
        raise ValueError(
            f"got keys {key.shape} for {shape[0]} images: give one key, or one per image"
        )
    return jax.vmap(lambda one: jax.random.uniform(one, shape[1:]))(key)


def _split(key: Array, n: int) -> Array:
    if key.ndim == (0 if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else 1):
        return jax.random.split(key, n)
    return jax.vmap(lambda one: jax.random.split(one, n), out_axes=1)(key)


def _stretch(images: Array, axes: tuple[int, ...], key: Array, strength: float) -> Array:
    """Scales the distance from the mean over `axes` by U[1 − strength, 1 + strength]."""
    wide = images.astype(jnp.promote_types(images.dtype, jnp.float32))
    change = strength * (2 * _uniform(key, (len(images), 1, 1, 1)) - 1)
    # As an addition, so that strength 0 leaves every bit as it was.
    return (wide + change * (wide - wide.mean(axes, keepdims=True))).astype(images.dtype)


def brightness(images: Array, key: Array, *, strength: float = 0.5) -> Array:
    """Adds one b ~ U[−strength, strength] to all of an image; the default suits images in [-1, 1].

    Args: `images` [B, H, W, C], floats; `key`, one or [B].
    Returns: images of the same shape and dtype, not clipped.
    Raises ValueError if images are not floats [B, H, W, C] or there are not as many keys.
    Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training" (2020), as are all
    of `saturation`, `contrast`, `translation` and `cutout`, with the strengths of its code.
    """
    images = _images(images)
    change = strength * (2 * _uniform(key, (len(images), 1, 1, 1)) - 1)
    return (images + change).astype(images.dtype)


def saturation(images: Array, key: Array, *, strength: float = 1.0) -> Array:
    """m + s·(x − m), m a pixel's mean over channels, one s ~ U[1 − strength, 1 + strength].

    One s for all of an image. Leaves grey images as they are. Arguments, errors and paper as for
    `brightness`.
    """
    return _stretch(_images(images), (3,), key, strength)


def contrast(images: Array, key: Array, *, strength: float = 0.5) -> Array:
    """m + s·(x − m), m an image's mean, one s ~ U[1 − strength, 1 + strength].

    One s for all of an image. Arguments, errors and paper as for `brightness`.
    """
    return _stretch(_images(images), (1, 2, 3), key, strength)


def _extent(size: int, ratio: float) -> int:
    return int(size * ratio + 0.5)


def translation(images: Array, key: Array, *, ratio: float = 0.125) -> Array:
    """Shifts an image by whole pixels, up to `ratio` of its height and width, zeros moving in.

    Each shift is uniform on −n … n, n = ⌊ratio·size + ½⌋. Arguments, errors and paper as for
    `brightness`.
    """
    batch, height, width, channels = _images(images).shape
    rows, columns = _extent(height, ratio), _extent(width, ratio)
    # From 0 to 2n: where in the padded image the window of the original size begins.
    choices = jnp.array([[2 * rows + 1, 2 * columns + 1]])  # [1, 2]
    starts = (_uniform(key, (batch, 2)) * choices).astype(int)  # [B, 2]
    padded = jnp.pad(images, ((0, 0), (rows, rows), (columns, columns), (0, 0)))

    def window(image: Array, start: Array) -> Array:
        return jax.lax.dynamic_slice(image, (start[0], start[1], 0), (height, width, channels))

    return jax.vmap(window)(padded, starts)


def _interval(position: Array, size: int, ratio: float) -> Array:
    """Which of `size` places lie in a randomly centred interval: [B] in [0, 1) -> [B, size]."""
    extent = _extent(size, ratio)
    # An even interval has its centre between two places, hence one centre more.
    centre = jnp.floor(position * (size + 1 - extent % 2))[:, None]
    offset = jnp.arange(size)[None] - (centre - extent // 2)
    return (offset >= 0) & (offset < extent)


def cutout(images: Array, key: Array, *, ratio: float = 0.5) -> Array:
    """Sets a rectangle to zero, `ratio` of the height by `ratio` of the width, its centre anywhere.

    The part of it beyond the border is lost, so that a cut may be smaller. Arguments, errors
    and paper as for `brightness`.
    """
    batch, height, width, _ = _images(images).shape
    position = _uniform(key, (batch, 2))
    rows = _interval(position[:, 0], height, ratio)  # [B, H]
    columns = _interval(position[:, 1], width, ratio)  # [B, W]
    return jnp.where(rows[:, :, None, None] & columns[:, None, :, None], 0, images)


def horizontal_flip(images: Array, key: Array, *, probability: float = 0.5) -> Array:
    """Mirrors an image left to right, with a probability.

    Arguments, errors and paper as for `brightness`.
    Karras et al., "Training Generative Adversarial Networks with Limited Data" (2020), where the
    probability is adapted in training and flips belong to the "pixel blitting" of ADA.
    """
    chosen = _uniform(key, (len(_images(images)), 1, 1, 1)) < probability
    return jnp.where(chosen, images[:, :, ::-1], images)


def rotate90(images: Array, key: Array, *, probability: float = 1.0) -> Array:
    """With a probability, turns a square image by k·90° anticlockwise, k uniform on 0, 1, 2, 3.

    Arguments and errors as for `brightness`, and ValueError if images are not square.
    Karras et al. (2020), as `horizontal_flip`.
    """
    batch, height, width, _ = _images(images).shape
    if height != width:
        raise ValueError(f"only square images turn by 90°, got {images.shape}: crop or pad them")
    draws = _uniform(key, (batch, 2))
    quarters = jnp.where(draws[:, 0] < probability, jnp.floor(4 * draws[:, 1]), 0)
    quarters = quarters[:, None, None, None]  # [B, 1, 1, 1]
    # A quarter turn is a transposition and then a flip of rows; a half turn flips both axes.
    turned = jnp.where(quarters % 2 == 1, images.swapaxes(1, 2), images)
    turned = jnp.where((quarters == 1) | (quarters == 2), turned[:, ::-1], turned)
    return jnp.where(quarters >= 2, turned[:, :, ::-1], turned)


def compose(*augmentations: Augment) -> Augment:
    """One augmentation that applies several in turn, each with a key of its own split off.

    Strengths are bound by functools.partial: compose(partial(translation, ratio=0.25), cutout).
    """

    def augment(images: Array, key: Array) -> Array:
        for augmentation, own in zip(augmentations, _split(key, len(augmentations)), strict=True):
            images = augmentation(images, own)
        return images

    return augment


color = compose(brightness, saturation, contrast)
"""DiffAugment's "color": brightness, saturation and contrast; (images, key) -> like images."""

diff_augment = compose(color, translation, cutout)
"""DiffAugment's strongest policy, colour, translation, cutout; (images, key) -> like images.

Apply it to the critic's every input, real and generated, in the critic's and the generator's turn
alike: critic(diff_augment(x, key)). Zhao et al. (2020), section 3.
"""
