"""Blur and artefacts: the power of samples by frequency against that of real images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from genjax.evaluate.copies import luminance
from genjax.evaluate.estimate import welch_half_width
from genjax.evaluate.finding import Finding

ERROR_RATE = 0.01
TOLERANCE = 0.1  # share of power or sharpness that may lack or be too much
LEAST = 32  # images of both sides without which nothing is decided
_CHUNK = 256
_QUANTISATION = 1 / 255**2 / 12  # variance of rounding to 8 bits, in 0..1


class Frequencies(NamedTuple):
    """What is known of each image, natural logarithms.

    Attributes:
      bands: power in rings of equal width from 0 to half a cycle per pixel, [n, B].
      sharpness: variance of the Laplacian, [n].
      lattice: power at the frequencies of a checkerboard of period 2 pixels, and of period 4, over
        that around them, [n, 2].
    """

    bands: np.ndarray
    sharpness: np.ndarray
    lattice: np.ndarray


@dataclass(frozen=True)
class Ratio:
    """A ratio of geometric means, samples to real images, with its interval.

    Attributes:
      value: [...].
      low: lower ends, [...].
      high: upper ends, [...].
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def frequencies(images: np.ndarray) -> Frequencies:
    r"""Power by frequency of the brightness of each image.

    The image, cut to a multiple of four pixels, is tapered by a Hann window; its power spectrum is
    averaged over rings of frequencies. Rounding to 8 bits bounds every power from below.

    Args:
      images: uint8 [n, H, W, C], of 8 pixels a side at least.

    Returns:
      The logarithms of the powers.

    Raises:
      ValueError: where the images are smaller.
    """
    if min(images.shape[1:3]) < 8:
        raise ValueError(f"a spectrum needs 8 pixels a side, not {images.shape[1:3]}")
    parts = [_measured(jnp.asarray(images[i : i + _CHUNK])) for i in range(0, len(images), _CHUNK)]
    return Frequencies(
        *(np.concatenate([np.asarray(x) for x in each]) for each in zip(*parts, strict=True))
    )


def ring_centres(height: int, width: int) -> np.ndarray:
    """The middle frequencies of the rings of `Frequencies.bands`.

    Args:
      height: of an image, pixels.
      width: of an image, pixels.

    Returns:
      Cycles per pixel, [B].
    """
    count = _rings(height - height % 4, width - width % 4)
    return (np.arange(count) + 0.5) * 0.5 / count


def _rings(height: int, width: int) -> int:
    return min(height, width) // 4


@jax.jit
def _measured(images: Array) -> tuple[Array, Array, Array]:
    x = luminance(images.astype(jnp.float32) / 255)
    inner = x[:, 1:-1, 1:-1]
    laplacian = x[:, :-2, 1:-1] + x[:, 2:, 1:-1] + x[:, 1:-1, :-2] + x[:, 1:-1, 2:] - 4 * inner
    sharpness = jnp.log(laplacian.var((1, 2)) + 20 * _QUANTISATION)
    height, width = (side - side % 4 for side in x.shape[1:])
    x = x[:, :height, :width]
    window = jnp.hanning(height + 1)[:-1, None] * jnp.hanning(width + 1)[None, :-1]
    spectrum = jnp.fft.fft2((x - x.mean((1, 2), keepdims=True)) * window[None])
    power = jnp.abs(spectrum) ** 2 / (window**2).sum() + _QUANTISATION
    return _ring_means(power), sharpness, _lattice(power)


def _ring_means(power: Array) -> Array:
    height, width = power.shape[1:]
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    count = _rings(height, width)
    ring = np.minimum(np.floor(radius / 0.5 * count), count).astype(int)  # the corners are none
    ring[0, 0] = count
    member = np.stack([(ring == k) / (ring == k).sum() for k in range(count)])
    return jnp.log(jnp.einsum("nhw,khw->nk", power, member))


def _lattice(power: Array) -> Array:
    """[n, h, w] -> the power at the points of two lattices over that two bins off, logs, [n, 2]."""
    height, width = power.shape[1:]
    around = [
        jnp.roll(power, (down, right), (1, 2))
        for down in range(-2, 3)
        for right in range(-2, 3)
        if max(abs(down), abs(right)) == 2
    ]
    excess = jnp.log(power) - jnp.log(sum(around) / len(around))
    halves = [(height // 2, 0), (0, width // 2), (height // 2, width // 2)]
    quarters = [
        (down * height // 4, right * width // 4)
        for down in range(4)
        for right in range(4)
        if down % 2 or right % 2
    ]
    points = [jnp.stack([excess[:, d, r] for d, r in each], 1) for each in (halves, quarters)]
    return jnp.stack([each.mean(1) for each in points], 1)


def ratio(samples: np.ndarray, real: np.ndarray, error_rate: float) -> Ratio:
    """Compares logarithms by Welch's interval of the difference of their means.

    Args:
      samples: logarithms, [n, ...].
      real: of real images, [m, ...].
      error_rate: of each interval, both ends together.

    Returns:
      The ratio of the geometric means.

    References:
      Welch, "The Generalization of 'Student's' Problem when Several Different Population Variances
      are Involved" (Biometrika, 1947).
    """
    parts = [x.var(0, ddof=1) / len(x) for x in (samples, real)]
    half = welch_half_width(parts, [len(samples) - 1, len(real) - 1], error_rate)
    gap = samples.mean(0) - real.mean(0)
    return Ratio(np.exp(gap), np.exp(gap - half), np.exp(gap + half))


def blur(samples: Frequencies, real: Frequencies, *, seed: int = 0) -> Finding:
    """Whether samples lack the fine detail of real images.

    Found where sharpness, or the power above a quarter of a cycle per pixel, lies more than 10 %
    below that of real images, beyond its interval.

    Args:
      samples: of the samples.
      real: of real images.
      seed: of the samples, for the record.

    Returns:
      The decision.
    """
    upper = samples.bands.shape[1] // 2
    # One end of each interval decides, and there are two intervals.
    fine = ratio(samples.bands[:, upper:].mean(1), real.bands[:, upper:].mean(1), ERROR_RATE)
    sharp = ratio(samples.sharpness, real.sharpness, ERROR_RATE)
    numbers = _numbers({"sharpness": sharp, "fine_detail": fine})
    found = min(sharp.high, fine.high) < 1 - TOLERANCE
    text = (
        f"sharpness {sharp.value:.2f} of the data's ({sharp.low:.2f} to {sharp.high:.2f}), power "
        f"of fine detail {fine.value:.2f} ({fine.low:.2f} to {fine.high:.2f})"
    )
    if min(sharp.low, fine.low) > 1 + TOLERANCE:
        text += ": more than the data has, as noise adds"
    advice = (
        "train longer or with a larger network; pixel-wise losses blur, a perceptual or an "
        "adversarial one sharpens; a sampler with more steps may help"
    )
    return _finding("blur", bool(found), text, advice, numbers, samples, real, seed)


def checkerboard(samples: Frequencies, real: Frequencies, *, seed: int = 0) -> Finding:
    """Whether samples have the periodic artefacts that transposed convolutions leave.

    Found where the power at a period of two pixels, or of four, exceeds that at frequencies around
    it by 10 %, and by 10 % more than in real images, beyond the interval.

    Args:
      samples: of the samples.
      real: of real images.
      seed: of the samples, for the record.

    Returns:
      The decision.

    References:
      Odena, Dumoulin & Olah, "Deconvolution and Checkerboard Artifacts" (Distill, 2016).
      Durall, Keuper & Keuper, "Watch your Up-Convolution: CNN Based Generative Deep Neural
      Networks are Failing to Reproduce Spectral Distributions" (2020), arXiv:2003.01826.
    """
    excess = ratio(samples.lattice, real.lattice, ERROR_RATE)
    parts = {
        f"period_{period}": Ratio(excess.value[k], excess.low[k], excess.high[k])
        for k, period in enumerate((2, 4))
    }
    # Blur alone raises the ratio: where no detail is left, nothing falls off around the period.
    peaks = np.exp(samples.lattice.mean(0))
    found = any(each.low > 1 + TOLERANCE < p for each, p in zip(parts.values(), peaks, strict=True))
    text = ", ".join(
        f"period {name[-1]} pixels: {each.value:.2f} of the data's power "
        f"({each.low:.2f} to {each.high:.2f})"
        for name, each in parts.items()
    )
    advice = (
        "replace transposed convolutions by resizing and a convolution, or let the kernel be a "
        "multiple of the stride"
    )
    numbers = _numbers(parts) | {"peak_2": float(peaks[0]), "peak_4": float(peaks[1])}
    return _finding("checkerboard", found, text, advice, numbers, samples, real, seed)


def _numbers(ratios: dict[str, Ratio]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, each in ratios.items():
        found |= {name: float(each.value), f"{name}_low": float(each.low)}
        found[f"{name}_high"] = float(each.high)
    return found


def _finding(
    name: str,
    found: bool,
    text: str,
    advice: str,
    numbers: dict[str, float],
    samples: Frequencies,
    real: Frequencies,
    seed: int,
) -> Finding:
    n, m = len(samples.sharpness), len(real.sharpness)
    decided = min(n, m) >= LEAST
    if not decided:
        advice = f"give {LEAST} samples and held-out images or more"
    return Finding(
        name, found and decided, text, advice, numbers, ERROR_RATE, n, m, decided, seed=seed
    )
