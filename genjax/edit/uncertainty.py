"""What several answers to one observation say about each pixel, and whether they say it truly."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax.numerics import check_floats


class Summary(NamedTuple):
    """What n answers say about each pixel.

    Attributes:
      mean: their mean, the best answer by squared error, [...].
      spread: their standard deviation, from the unbiased variance, [...].
      low: the lower end of the band that holds the truth at the level asked for, [...].
      high: its upper end, [...].
    """

    mean: Array
    spread: Array
    low: Array
    high: Array


class Coverage(NamedTuple):
    """How often the truth lies in the band.

    Attributes:
      share: the mean over images; the band's level where the answers are posterior samples.
      low: lower end of its interval over images.
      high: upper end.
      per_image: the share of each image's pixels, [B].
    """

    share: Array
    low: Array
    high: Array
    per_image: Array


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, such as 0.9, not {level}")


def summarize(samples: Array, level: float = 0.9) -> Summary:
    r"""Mean, spread and band per pixel.

    If the answers are samples of the posterior, the rank of the truth among n of them is uniform
    on 0, …, n. So the band lies between the order statistics at

    $$
    h = \tfrac{1 - \ell}{2}\,(n + 1) \quad\text{and}\quad n + 1 - h
    $$

    for a level ℓ, interpolated linearly. That the band comes from n answers only is in the n + 1;
    where h is an integer, as for 19, 39 or 99 answers at 0.9, the band holds the truth with
    probability ℓ whatever the distribution; between such n a normal truth lies in it slightly more
    often, at 0.9 by 0.009 at most (28 answers).

    Args:
      samples: n answers to each observation, [n, ...], floats.
      level: ℓ.

    Returns:
      Arrays of the shape of one answer, [...].

    Raises:
      ValueError: where the samples are no floats, or too few for the level: the truth lies outside
        of n answers with probability 2/(n + 1).
    """
    check_floats(samples=samples)
    _check_level(level)
    n = len(samples)
    widest = (n - 1) / (n + 1)
    if level > widest + 1e-6:
        least = -int(-2 // (1 - level + 1e-6)) - 1
        raise ValueError(
            f"{n} answers hold a band of at most {100 * widest:.0f} %: "
            f"{100 * level:.0f} % needs {least} answers"
        )
    ordered = jnp.sort(samples, axis=0)

    def at(h: float) -> Array:
        below = min(max(int(h), 1), n - 1)
        part = min(max(h - below, 0.0), 1.0)
        return (1 - part) * ordered[below - 1] + part * ordered[below]

    h = (1 - level) / 2 * (n + 1)
    return Summary(samples.mean(0), samples.std(0, ddof=1), at(h), at(n + 1 - h))


def _student(level: float, freedom: int) -> Array:
    """The quantile of Student's t that a two-sided interval of a level ends at."""

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        under = jax.scipy.special.betainc(freedom / 2, 0.5, middle) < 1 - level
        return jnp.where(under, middle, low), jnp.where(under, high, middle)

    low, high = jax.lax.fori_loop(0, 40, halve, (jnp.float32(0), jnp.float32(1)))
    x = (low + high) / 2
    return jnp.sqrt(freedom * (1 - x) / x)


def coverage(
    samples: Array,
    truth: Array,
    level: float = 0.9,
    where: Array | None = None,
    confidence: float = 0.95,
) -> Coverage:
    r"""How often the truth lies in the band of `summarize`, with an interval over images.

    With L answers below the truth and E equal to it, the truth's rank is one of L, …, L + E. Its
    share of the band is

    $$
    \frac{\bigl| [L,\; L + E + 1] \cap [h,\; n + 1 - h] \bigr|}{E + 1}, \qquad
    h = \tfrac{1 - \ell}{2}\,(n + 1)
    $$

    which is 0 or 1 where h is an integer and nothing is equal. If the answers are samples of the
    posterior its expectation is ℓ for every n, also below the number that `summarize` needs, and
    for every distribution: pixels that all answers agree on count as ℓ, where a closed band would
    always hold them. A share below ℓ says that the answers are too sure of themselves. Pixels of
    one image depend on each other, so that the interval is Student's over the images.

    Args:
      samples: n answers to each observation, [n, B, ...], floats.
      truth: the images, [B, ...], floats.
      level: ℓ.
      where: the pixels that count, broadcast to the truth's shape, such as those that a mask hides;
        None for all.
      confidence: of the interval.

    Returns:
      Shares of the pixels that count.

    Raises:
      ValueError: where the shapes do not fit, or there are less than two images, which have no
        interval.

    References:
      Talts et al., "Validating Bayesian Inference Algorithms with Simulation-Based Calibration"
      (2018), arXiv:1804.06788, theorem 1.
      Czado, Gneiting & Held, "Predictive Model Assessment for Count Data" (Biometrics, 2009).
    """
    check_floats(samples=samples, truth=truth)
    _check_level(level)
    _check_level(confidence)
    if samples.shape[1:] != truth.shape:
        raise ValueError(f"samples must be [n, *{truth.shape}], n answers each: {samples.shape}")
    if (m := len(truth)) < 2:
        raise ValueError("coverage needs two images or more: its interval is over images")
    n = len(samples)
    below = (samples < truth[None]).sum(0)
    equal = (samples == truth[None]).sum(0)
    h = (1 - level) / 2 * (n + 1)
    overlap = jnp.minimum(below + equal + 1, n + 1 - h) - jnp.maximum(below, h)
    inside = jnp.maximum(overlap, 0) / (equal + 1)
    counts = jnp.ones(truth.shape) if where is None else jnp.broadcast_to(where, truth.shape) != 0
    axes = tuple(range(1, truth.ndim))
    shares = (inside * counts).sum(axes) / counts.sum(axes)
    mean = shares.mean()
    half = _student(confidence, m - 1) * shares.std(ddof=1) / m**0.5
    return Coverage(mean, jnp.maximum(mean - half, 0), jnp.minimum(mean + half, 1), shares)
