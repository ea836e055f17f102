"""Differentiable augmentations of images, for a critic that sees few real ones."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys, numerics

Augment = Callable[[Array, Array], Array]  # (images [B, H, W, C], key) -> like images


def _images(images: Array) -> Array:
    numerics.check_floats(images=images)
    if images.ndim != 4:
        raise ValueError(f"images must be floats [B, H, W, C], got {images.shape}: give a batch")
    return images


def _stretch(images: Array, axes: tuple[int, ...], key: Array, strength: float) -> Array:
    """Scales the distance from the mean over `axes` by U[1 − strength, 1 + strength]."""
    wide = numerics.widen(images)
    change = strength * (2 * keys.uniform(key, (len(images), 1, 1, 1)) - 1)
    # As an addition, so that strength 0 leaves every bit as it was.
    return (wide + change * (wide - wide.mean(axes, keepdims=True))).astype(images.dtype)


def brightness(images: Array, key: Array, *, strength: float = 0.5) -> Array:
    r"""Adds one random offset to all of an image.

    $$
    x + b, \qquad b \sim U[-s, s]
    $$

    Args:
      images: [B, H, W, C], floats.
      key: one key, or one per image [B].
      strength: s; the default is that of the code for images in −1…1.

    Returns:
      Like `images`, not clipped.

    Raises:
      ValueError: where `images` are not floats [B, H, W, C], or there is another number of keys.

    References:
      Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training" (2020),
      arXiv:2006.10738, section 3 and the code.
    """
    images = _images(images)
    change = strength * (2 * keys.uniform(key, (len(images), 1, 1, 1)) - 1)
    return (images + change).astype(images.dtype)


def saturation(images: Array, key: Array, *, strength: float = 1.0) -> Array:
    r"""Scales each pixel's distance from grey by one random factor per image.

    Grey images stay as they are.

    $$
    m + u \, (x - m), \qquad u \sim U[1 - s, 1 + s], \qquad m = \mathrm{mean}_{c} \, x
    $$

    Args:
      images: [B, H, W, C], floats.
      key: one key, or one per image [B].
      strength: s.

    Returns:
      Like `images`, not clipped.

    Raises:
      ValueError: where `images` are not floats [B, H, W, C], or there is another number of keys.

    References:
      Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training" (2020),
      arXiv:2006.10738, section 3 and the code.
    """
    return _stretch(_images(images), (3,), key, strength)


def contrast(images: Array, key: Array, *, strength: float = 0.5) -> Array:
    r"""Scales each element's distance from the image's mean by one random factor per image.

    $$
    m + u \, (x - m), \qquad u \sim U[1 - s, 1 + s], \qquad m = \mathrm{mean}_{h,w,c} \, x
    $$

    Args:
      images: [B, H, W, C], floats.
      key: one key, or one per image [B].
      strength: s.

    Returns:
      Like `images`, not clipped.

    Raises:
      ValueError: where `images` are not floats [B, H, W, C], or there is another number of keys.

    References:
      Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training" (2020),
      arXiv:2006.10738, section 3 and the code.
    """
    return _stretch(_images(images), (1, 2, 3), key, strength)


def _extent(size: int, ratio: float | Array) -> Any:
    extent = size * ratio + 0.5
    return jnp.floor(extent) if numerics.is_traced(extent) else int(extent)


def translation(images: Array, key: Array, *, ratio: float = 0.125) -> Array:
    r"""Shifts an image by an integer number of pixels, padded with zeros.

    Each of the two shifts is uniform on

    $$
    -n, \ldots, n, \qquad
    n = \left\lfloor \mathrm{ratio} \cdot \mathrm{size} + \tfrac{1}{2} \right\rfloor
    $$

    Args:
      images: [B, H, W, C], floats.
      key: one key, or one per image [B].
      ratio: the largest shift, as a share of height and width.

    Returns:
      Like `images`.

    Raises:
      TypeError: where `ratio` is traced.
      ValueError: where `images` are not floats [B, H, W, C], or there is another number of keys.

    References:
      Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training" (2020),
      arXiv:2006.10738, section 3 and the code.
    """
    batch, height, width, channels = _images(images).shape
    numerics.check_static(ratio=ratio)
    rows, columns = _extent(height, ratio), _extent(width, ratio)
    # From 0 to 2n: where in the padded image the window of the original size begins.
    choices = jnp.array([[2 * rows + 1, 2 * columns + 1]])  # [1, 2]
    starts = (keys.uniform(key, (batch, 2)) * choices).astype(int)  # [B, 2]
    padded = jnp.pad(images, ((0, 0), (rows, rows), (columns, columns), (0, 0)))

    def window(image: Array, start: Array) -> Array:
        return jax.lax.dynamic_slice(image, (start[0], start[1], 0), (height, width, channels))

    return jax.vmap(window)(padded, starts)


def _interval(position: Array, size: int, ratio: float | Array) -> Array:
    """Which of `size` places lie in a randomly centred interval: [B] in [0, 1) -> [B, size]."""
    extent = _extent(size, ratio)
    # An even interval has its centre between two places, hence one centre more.
    centre = jnp.floor(position * (size + 1 - extent % 2))[:, None]
    offset = jnp.arange(size)[None] - (centre - extent // 2)
    return (offset >= 0) & (offset < extent)


def cutout(images: Array, key: Array, *, ratio: float = 0.5) -> Array:
    """Sets a rectangle to zero, its centre anywhere.

    The part of it beyond the border is lost, so that a cut may be smaller.

    Args:
      images: [B, H, W, C], floats.
      key: one key, or one per image [B].
      ratio: the rectangle's height and width, as a share of the image's.

    Returns:
      Like `images`.

    Raises:
      ValueError: where `images` are not floats [B, H, W, C], or there is another number of keys.

    References:
      Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training" (2020),
      arXiv:2006.10738, section 3 and the code.
    """
    batch, height, width, _ = _images(images).shape
    position = keys.uniform(key, (batch, 2))
    rows = _interval(position[:, 0], height, ratio)  # [B, H]
    columns = _interval(position[:, 1], width, ratio)  # [B, W]
    return jnp.where(rows[:, :, None, None] & columns[:, None, :, None], 0, images)


def horizontal_flip(images: Array, key: Array, *, probability: float = 0.5) -> Array:
    """Mirrors an image left to right, with a probability.

    Args:
      images: [B, H, W, C], floats.
      key: one key, or one per image [B].
      probability: of a flip.

    Returns:
      Like `images`.

    Raises:
      ValueError: where `images` are not floats [B, H, W, C], or there is another number of keys.

    References:
      Karras et al., "Training Generative Adversarial Networks with Limited Data" (2020),
      arXiv:2006.06676, section 2: a "pixel blitting" of ADA, which adapts the probability in
      training.
    """
    chosen = keys.uniform(key, (len(_images(images)), 1, 1, 1)) < probability
    return jnp.where(chosen, images[:, :, ::-1], images)


def rotate90(images: Array, key: Array, *, probability: float = 1.0) -> Array:
    """Turns a square image by k·90° anticlockwise, k uniform on 0, 1, 2, 3, with a probability.

    Args:
      images: [B, H, W, C], floats.
      key: one key, or one per image [B].
      probability: of a draw of k.

    Returns:
      Like `images`.

    Raises:
      ValueError: where `images` are not floats [B, H, W, C] or not square, or there is another
        number of keys.

    References:
      Karras et al., "Training Generative Adversarial Networks with Limited Data" (2020),
      arXiv:2006.06676, section 2: a "pixel blitting" of ADA, which adapts the probability in
      training.
    """
    batch, height, width, _ = _images(images).shape
    if height != width:
        raise ValueError(f"only square images turn by 90°, got {images.shape}: crop or pad them")
    draws = keys.uniform(key, (batch, 2))
    quarters = jnp.where(draws[:, 0] < probability, jnp.floor(4 * draws[:, 1]), 0)
    quarters = quarters[:, None, None, None]  # [B, 1, 1, 1]
    # A quarter turn is a transposition and then a flip of rows; a half turn flips both axes.
    turned = jnp.where(quarters % 2 == 1, images.swapaxes(1, 2), images)
    turned = jnp.where((quarters == 1) | (quarters == 2), turned[:, ::-1], turned)
    return jnp.where(quarters >= 2, turned[:, :, ::-1], turned)


def binarize(images: Array, key: Array) -> Array:
    """Draws every pixel as 0 or 1 with its grey value as the probability of 1.

    Args:
      images: in 0..1, [B, ...], floats.
      key: one key, or one per image [B].

    Returns:
      Like `images`, of 0 and 1.

    Raises:
      ValueError: where `images` are integers, or there is another number of keys.

    References:
      Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders" (2016), arXiv:1509.00519,
      section 5: dynamic binarisation.
    """
    numerics.check_floats(images=images)
    if keys.is_single(key):
        return jax.random.bernoulli(key, images).astype(images.dtype)
    keys.check_batch(key, len(images))
    return jax.vmap(jax.random.bernoulli)(key, images).astype(images.dtype)


def compose(*augmentations: Augment) -> Augment:
    """One augmentation that applies several in turn, each with a key of its own split off.

    Strengths are bound by functools.partial: `compose(partial(translation, ratio=0.25), cutout)`.

    Args:
      *augmentations: each (images, key) -> like images.

    Returns:
      (images, key) -> like images.
    """

    def augment(images: Array, key: Array) -> Array:
        for augmentation, own in zip(
            augmentations, keys.split(key, len(augmentations)), strict=True
        ):
            images = augmentation(images, own)
        return images

    return augment


color = compose(brightness, saturation, contrast)
"""The policy "color" of DiffAugment: (images, key) -> like images.

References:
  Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training" (2020),
  arXiv:2006.10738, section 3.
"""

diff_augment = compose(color, translation, cutout)
"""DiffAugment's strongest policy, color, translation and cutout: (images, key) -> like images.

Apply it to the critic's every input, real and generated, in the critic's and the generator's turn
alike: `critic(diff_augment(x, key))`.

References:
  Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training" (2020),
  arXiv:2006.10738, section 3.
"""
