"""Adaptive discriminator augmentation: random transformations of a probability that adapts.

The critic sees every image, real and generated, through the same random geometric and colour
transformations, each with probability p. p rises where the critic overfits to the real images and
falls where it does not, so that the generator learns the distribution of the images and not of the
transformed ones.

    state = start()                                    # kept with the critic's variables
    logits = critic(augment(x, key, state["probability"]))   # real and generated, in both turns
    state = adapt(state, logits_of_real_images)        # in the critic's turn
"""

import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.ndimage import map_coordinates

from genjax import keys, numerics, over_batch

# The low-pass filter of the wavelet symlet 6 (Daubechies, "Ten Lectures on Wavelets", 1992): it is
# orthogonal to itself shifted by 2, so that doubling a resolution and halving it again is exact.
SYMLET_6 = (
    *(0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633),
    *(0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252),
    *(-0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148),
)
_BEFORE = 5  # of the taps, before the pixel that they belong to
# What remains to the centre of gravity of the taps, 0.1 of a pixel at twice the resolution.
_CENTRE = sum(i * tap for i, tap in enumerate(SYMLET_6)) / sum(SYMLET_6) - _BEFORE

State = dict[str, Array]

LABELS = 9  # parameters of `augment_with_labels`


def start() -> State:
    """The state of an adaptive probability before the first step.

    Returns:
      {"probability": p = 0, "sign": the sum of r_t since the last change, "minibatches": their
      number}, scalars.
    """
    return {
        "probability": jnp.zeros(()),
        "sign": jnp.zeros(()),
        "minibatches": jnp.zeros((), jnp.int32),
    }


def adapt(
    state: State,
    real: Array,
    *,
    target: float = 0.6,
    images: float = 500_000,
    interval: int = 4,
    axis_name: str | None = over_batch.DATA_AXIS,
) -> State:
    r"""Raises the probability where the critic overfits, and lowers it where it does not.

    Every `interval` minibatches p changes by as much as these hold images, over `images`:

    $$
    p \leftarrow \max\!\Big(0,\ p + \mathrm{sign}(r_t - \mathrm{target})\,
    \frac{\mathrm{interval} \cdot B}{\mathrm{images}}\Big), \qquad
    r_t = \mathbb{E}\, \mathrm{sign}\, D(x_{\mathrm{real}})
    $$

    Args:
      state: of `start` or of the last call.
      real: the critic's raw outputs for augmented real images, [B], positive for real.
      target: of r_t; the critic overfits where it is sure of more real images.
      images: that the critic sees while p goes from 0 to 1.
      interval: minibatches between changes.
      axis_name: the axis that splits the batch.

    Returns:
      The state for the next step.

    Raises:
      ValueError: where `real` is not floats [B].

    References:
      Karras et al., "Training Generative Adversarial Networks with Limited Data" (2020),
      arXiv:2006.06676, eq. 1 and section 3.1.
    """
    numerics.check_floats(real=real)
    if real.ndim != 1:
        raise ValueError(f"give one output per real image, [B], not {real.shape}")
    batch = len(real) * over_batch.shards(axis_name)
    share = over_batch.mean(jnp.sign(numerics.widen(real)).mean(), axis_name)
    total, count = state["sign"] + share, state["minibatches"] + 1
    step = jnp.sign(total / interval - target) * (interval * batch / images)
    due = count >= interval
    return {
        "probability": jnp.where(
            due, jnp.maximum(state["probability"] + step, 0), state["probability"]
        ),
        "sign": jnp.where(due, 0, total),
        "minibatches": jnp.where(due, 0, count),
    }


def augment(images: Array, key: Array, probability: Array | float) -> Array:
    """The paper's pipeline "bgc": `warp` by `geometry`, then `recolour`.

    Args:
      images: in −1..1, [B, H, W, C] with C of 1 or 3, floats.
      key: one key, or one per image [B].
      probability: p, of each transformation.

    Returns:
      Like `images`, not clipped.

    Raises:
      ValueError: where `images` are not floats [B, H, W, C] of 1 or 3 channels, or there is another
        number of keys.

    References:
      Karras et al., "Training Generative Adversarial Networks with Limited Data" (2020),
      arXiv:2006.06676, appendix B and the code.
    """
    batch, height, width, _ = _checked(images).shape
    geometric, coloured = keys.split(key, 2)
    inverse = geometry(geometric, batch, probability, (height, width))
    return recolour(warp(images, inverse), coloured, probability)


def geometry(key: Array, batch: int, probability: Array | float, size: tuple[int, int]) -> Array:
    """Random geometric transformations of images, each step of them with a probability.

    In this order: left-right flip (in half of the draws), turn by k·90°, translation by whole
    pixels up to an eighth of the size; scaling by 2^N(0, 0.2²), rotation, stretching by
    2^N(0, 0.2²), another rotation, and translation by N(0, 1/8²) of the size.

    Args:
      key: one key, or one per image [B].
      batch: number of images, B.
      probability: p. Of the two rotations each has 1 − √(1 − p), together p.
      size: (H, W).

    Returns:
      [B, 3, 3]: from the place of a pixel in the transformed image to that in the original, as
      (x, y, 1) in pixels from the centre.

    Raises:
      ValueError: where there is another number of keys.

    References:
      Karras et al., "Training Generative Adversarial Networks with Limited Data" (2020),
      arXiv:2006.06676, appendix B.
    """
    uniform_key, normal_key = keys.split(key, 2)
    uniform = iter(keys.uniform(uniform_key, (batch, 14)).T)
    normal = iter(keys.normal(normal_key, (batch, 4)).T)
    eighth = jnp.array([size[::-1]]) / 8  # [1, 2], of x and y

    def chosen(value: Array, neutral: float, chance: Array | float = probability) -> Array:
        return jnp.where(next(uniform) < chance, value, neutral)

    def in_x_and_y(numbers: Iterator[Array]) -> Array:
        return jnp.stack([next(numbers), next(numbers)], -1)

    def rotation() -> Array:
        either = 1 - jnp.sqrt(jnp.clip(1 - probability, 0, 1))
        return _turn(chosen((2 * next(uniform) - 1) * math.pi, 0, either))

    def translation(pixels: Array) -> Array:
        x, y = -pixels.T * chosen(jnp.ones(batch), 0)[None]
        return _matrix(1, 0, x, 0, 1, y)

    return _product(
        _stretch(1 - 2 * chosen(jnp.floor(2 * next(uniform)), 0), 1),
        _turn(chosen(jnp.floor(4 * next(uniform)), 0) * math.pi / 2),
        translation(jnp.round((2 * in_x_and_y(uniform) - 1) * eighth)),
        _stretch(*2 * [jnp.exp2(-0.2 * chosen(next(normal), 0))]),
        rotation(),
        _stretch(aspect := jnp.exp2(-0.2 * chosen(next(normal), 0)), 1 / aspect),
        rotation(),
        translation(in_x_and_y(normal) * eighth),
    )


def augment_with_labels(
    images: Array, key: Array, probability: Array | float
) -> tuple[Array, Array]:
    r"""EDM's augmentation, and its parameters, by which a denoiser knows what was done.

    In this order: left-right flip in half of the images; with a probability each, upside-down flip
    (in half of the draws), scaling by 2^(0.2 a), rotation by θ, stretching by 2^(0.2 b) along an
    axis at the angle φ (in half of the draws φ = 0), and translation by an eighth of the size times
    (c, d), with a, b, c, d ~ N(0, 1) and θ, φ uniform. The parameters are

    $$
    \bigl(\mathrm{mirrored},\; \mathrm{upside\ down},\; a,\; \cos\theta - 1,\; \sin\theta,\;
    b \cos\varphi,\; b \sin\varphi,\; c,\; d\bigr)
    $$

    all 0 for an image as it is: with zeros the denoiser draws images that are not augmented.

    Args:
      images: [B, H, W, C], floats.
      key: one key, or one per image [B].
      probability: p; 0.12 to 0.15 in the paper.

    Returns:
      Like `images`, and the parameters, [B, LABELS]. An image that is flipped at most keeps every
      bit.

    Raises:
      ValueError: where `images` are not floats [B, H, W, C], or there is another number of keys.

    References:
      Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022),
      arXiv:2206.00364, appendix F.2 and table 6.
    """
    numerics.check_floats(images=images)
    if images.ndim != 4:
        raise ValueError(f"images must be floats [B, H, W, C], got {images.shape}: give a batch")
    batch, height, width, _ = images.shape
    uniform_key, normal_key = keys.split(key, 2)
    uniform = iter(keys.uniform(uniform_key, (batch, 10)).T)
    normal = iter(keys.normal(normal_key, (batch, 4)).T)

    def coin() -> Array:
        return jnp.floor(2 * next(uniform))

    def angle() -> Array:
        return (2 * next(uniform) - 1) * math.pi

    def chosen(value: Array) -> Array:
        return jnp.where(next(uniform) < probability, value, 0)

    mirrored, upside_down = coin(), chosen(coin())
    scale, turn, stretch = chosen(next(normal)), chosen(angle()), chosen(next(normal))
    # An axis without stretching would be two rotations, which differ from none by rounding.
    axis = jnp.where((coin() == 1) & (stretch != 0), angle(), 0)
    moves = chosen(jnp.ones(batch))
    x, y = next(normal) * moves, next(normal) * moves

    along = jnp.exp2(-0.2 * stretch)
    inverse = _product(
        _stretch(*2 * [jnp.exp2(-0.2 * scale)]),
        _turn(-turn),
        _turn(axis),
        _stretch(along, 1 / along),
        _turn(-axis),
        _matrix(1, 0, -x * width / 8, 0, 1, -y * height / 8),
    )
    flipped = jnp.where(mirrored[:, None, None, None] == 1, images[:, :, ::-1], images)
    flipped = jnp.where(upside_down[:, None, None, None] == 1, flipped[:, ::-1], flipped)
    turning = (jnp.cos(turn) - 1, jnp.sin(turn))
    stretching = (stretch * jnp.cos(axis), stretch * jnp.sin(axis))
    labels = jnp.stack([mirrored, upside_down, scale, *turning, *stretching, x, y], -1)
    return warp(flipped, inverse), labels


def warp(images: Array, inverse: Array) -> Array:
    r"""Transforms images geometrically, at twice their resolution.

    Between a doubling of the resolution and its halving, both by the wavelet symlet 6, pixels are
    interpolated linearly, so that little is blurred and nothing aliased.

    Args:
      images: [B, H, W, C], floats.
      inverse: [B, 3, 3], affine, as `geometry` returns.

    Returns:
      Like `images`. Around an image lies its reflection, as wide as the image less a pixel, and
      zeros around that. An image with the identity keeps every bit.

    Raises:
      ValueError: where `images` are not floats.

    References:
      Karras et al., "Training Generative Adversarial Networks with Limited Data" (2020),
      arXiv:2006.06676, appendix B.1.
    """
    numerics.check_floats(images=images)
    wide = numerics.widen(images)
    _, height, width, _ = wide.shape
    margin = jnp.array([width - 1, height - 1])
    padded = jnp.pad(wide, ((0, 0), (height - 1,) * 2, (width - 1,) * 2, (0, 0)), mode="reflect")
    doubled = _doubled(_doubled(padded, axis=1), axis=2)

    # Pixel p lies at p + margin, at twice the resolution at 2 (p + margin) + _CENTRE.
    y, x = (
        (jnp.arange(-_BEFORE, 2 * n + _BEFORE) - _CENTRE) / 2 - (n - 1) / 2 for n in (height, width)
    )
    x, y = jnp.meshgrid(x, y)
    out = jnp.stack([x, y, jnp.ones_like(x)], -1)  # [h, w, 3]
    place = jnp.einsum("bij,hwj->bhwi", inverse[:, :2], out, precision="highest")
    place = 2 * (place + (1.5 * margin)[None, None, None]) + _CENTRE

    moved = jax.vmap(_interpolated)(doubled, place)
    result = _halved(_halved(moved, axis=1), axis=2).astype(images.dtype)
    same = jnp.all(inverse == jnp.eye(3)[None], axis=(1, 2))
    return jnp.where(same[:, None, None, None], images, result)


def recolour(images: Array, key: Array, probability: Array | float) -> Array:
    r"""Random changes of colours, each of them with a probability.

    In this order: b ~ N(0, 0.2²) is added (brightness), all multiplied by c = 2^N(0, 0.5²)
    (contrast), the mean m of the channels negated in half of the draws (luma flip), the rest turned
    about the grey axis by an angle θ (hue), and multiplied by a = 2^N(0, 1) (saturation):

    $$
    y = \pm c \, (m + b) + a\, c\, R_	heta (x - m)
    $$

    Args:
      images: in −1..1, [B, H, W, C] with C of 1 or 3, floats.
      key: one key, or one per image [B].
      probability: of each change.

    Returns:
      Like `images`, not clipped. An image without a change keeps every bit.

    Raises:
      ValueError: where `images` are not floats [B, H, W, C] of 1 or 3 channels, or there is another
        number of keys.

    References:
      Karras et al., "Training Generative Adversarial Networks with Limited Data" (2020),
      arXiv:2006.06676, appendix B.
    """
    wide = numerics.widen(_checked(images))
    uniform_key, normal_key = keys.split(key, 2)
    shape = (len(images), 1, 1, 1)  # of each draw
    uniform = iter(jnp.moveaxis(keys.uniform(uniform_key, (*shape, 7)), -1, 0))
    normal = iter(jnp.moveaxis(keys.normal(normal_key, (*shape, 3)), -1, 0))

    def chosen(value: Array, neutral: float) -> Array:
        return jnp.where(next(uniform) < probability, value, neutral)

    brightness = chosen(0.2 * next(normal), 0)
    contrast = jnp.exp2(0.5 * chosen(next(normal), 0))
    sign = 1 - 2 * chosen(jnp.floor(2 * next(uniform)), 0)
    angle = chosen((2 * next(uniform) - 1) * math.pi, 0)
    saturation = jnp.exp2(chosen(next(normal), 0))
    mean = wide.mean(-1, keepdims=True)
    rest = wide - mean
    # The cross product with the unit vector of the grey axis.
    turned = (jnp.roll(rest, 1, -1) - jnp.roll(rest, -1, -1)) / math.sqrt(3)
    rest = jnp.cos(angle) * rest + jnp.sin(angle) * turned
    changed = sign * contrast * (mean + brightness) + saturation * contrast * rest
    same = (brightness == 0) & (contrast == 1) & (sign == 1) & (angle == 0) & (saturation == 1)
    return jnp.where(same, images, changed.astype(images.dtype))


def _checked(images: Array) -> Array:
    numerics.check_floats(images=images)
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ValueError(f"images must be floats [B, H, W, 1 or 3], got {images.shape}")
    return images


def _matrix(*six: Array | float) -> Array:
    """[B, 3, 3] of the upper two rows of an affine map."""
    rows = jnp.stack(jnp.broadcast_arrays(*six, 0.0, 0.0, 1.0), -1)
    return rows.reshape(*rows.shape[:-1], 3, 3)


def _turn(angle: Array) -> Array:
    """The inverse of a rotation by an angle [B]."""
    c, s = jnp.cos(angle), jnp.sin(angle)
    return _matrix(c, s, 0, -s, c, 0)


def _stretch(x: Array, y: Array | float) -> Array:
    return _matrix(x, 0, 0, 0, y, 0)


def _product(*matrices: Array) -> Array:
    return functools.reduce(functools.partial(jnp.matmul, precision="highest"), matrices)


def _filtered(x: Array, axis: int, kernel: Array, **how: Any) -> Array:
    """The correlation of a kernel with every line along an axis."""
    lines = jnp.moveaxis(x, axis, -1)
    found = jax.lax.conv_general_dilated(
        lines.reshape(-1, lines.shape[-1], 1),
        kernel.astype(x.dtype)[:, None, None],
        dimension_numbers=("NWC", "WIO", "NWC"),
        precision="highest",
        **how,
    )
    return jnp.moveaxis(found.reshape(*lines.shape[:-1], -1), -1, axis)


def _doubled(x: Array, axis: int) -> Array:
    """Twice the resolution: pixel n, at 2n, gets the taps from 2n − 5 to 2n + 6."""
    kernel = jnp.array(SYMLET_6[::-1]) * math.sqrt(2)
    return _filtered(x, axis, kernel, window_strides=[1], padding=[(6, 6)], lhs_dilation=[2])


def _halved(x: Array, axis: int) -> Array:
    """The inverse of `_doubled`, of lines that begin at −5 and end 5 after the last pixel."""
    kernel = jnp.array(SYMLET_6) / math.sqrt(2)
    return _filtered(x, axis, kernel, window_strides=[2], padding="VALID")


def _interpolated(image: Array, place: Array) -> Array:
    """The image [H, W, C] at places (x, y), [h, w, 2]: bilinear, zero outside."""
    x, y = jnp.moveaxis(place, -1, 0)
    channel = functools.partial(map_coordinates, coordinates=[y, x], order=1, mode="constant")
    return jax.vmap(channel, in_axes=-1, out_axes=-1)(image)
