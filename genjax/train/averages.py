r"""Moving averages of parameters: decays as functions of the step, and averages made afterwards.

A decay is a function step -> d, where step counts the train steps completed before the update:

$$
\bar\theta \leftarrow d\,\bar\theta + (1 - d)\,\theta
$$

`Player(ema=…)` takes a number, a decay, or several of either by name.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from genjax.train.state import Tree

Decay = Callable[[Array], Array | float]
Averages = float | Decay | Mapping[str, float | Decay]


def constant(decay: float) -> Decay:
    r"""A constant decay, lowered in the first steps so that the initial weights are forgotten.

    $$
    d(n) = \min\left(d, \frac{1 + n}{10 + n}\right)
    $$

    Args:
      decay: d, in [0, 1).

    Returns:
      The decay at a step.

    Raises:
      ValueError: where `decay` lies outside [0, 1).
    """
    if not 0 <= decay < 1:
        raise ValueError(f"an EMA decay lies in [0, 1), not {decay}")
    return lambda step: jnp.minimum(decay, (1 + step) / (10 + step))


def half_life(length: float | Decay, *, batch: int = 1, ramp_up: float | None = 0.05) -> Decay:
    r"""A decay that halves the weight of a step every so many images, fewer at the start.

    With the half-life h, the batch size B and the ramp-up ratio r,

    $$
    d(n) = 2^{-B / \min(h,\; r\,n\,B)}
    $$

    Args:
      length: h, in images; in steps where `batch` is 1. A number, or a function of the step.
      batch: B, images per step.
      ramp_up: r, the longest half-life as a share of the images seen so far; None for h from the
        start.

    Returns:
      The decay at a step.

    Raises:
      ValueError: where `length`, `batch` or `ramp_up` is not positive.

    References:
      Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022),
      arXiv:2206.00364, released code (500,000 images, 0.05).
    """
    no_length = not callable(length) and length <= 0
    if no_length or batch < 1 or (ramp_up is not None and ramp_up <= 0):
        raise ValueError(
            f"length, batch and ramp_up must be positive, not {length}, {batch} and {ramp_up}"
        )

    def decay(step: Array) -> Array:
        images = jnp.asarray(length(step) if callable(length) else length, jnp.float32)
        if ramp_up is not None:
            images = jnp.minimum(images, ramp_up * batch * step)
        return jnp.exp2(-batch / jnp.maximum(images, 1e-8))

    return decay


def power_function(relative_std: float) -> Decay:
    r"""The decay of an average whose length grows with training: step τ weighs as τ^γ.

    With t = n + 1 updates once this one is done,

    $$
    d(n) = \left(1 - \frac1t\right)^{\gamma + 1}, \qquad
    \bar\theta_t = \frac{\gamma + 1}{t^{\gamma + 1}} \int_0^t \tau^\gamma\,\theta(\tau)\,d\tau
    $$

    Two averages of different lengths, saved now and then, suffice to make that of any length
    afterwards: `post_hoc`. For a player of one turn per step.

    Args:
      relative_std: the standard deviation of the weights over τ, divided by t: 0.05 and 0.1 are
        the paper's two.

    Returns:
      The decay at a step.

    Raises:
      ValueError: where `relative_std` lies outside (0, 1/√12].

    References:
      Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models" (2024),
      arXiv:2312.02696, eqs. 121 to 127.
    """
    power = exponent(relative_std) + 1
    # The logarithm keeps the digits of 1/t, which 1 − 1/t loses in float32.
    return lambda step: jnp.exp(power * jnp.log1p(-1 / (step + 1)))


def exponent(relative_std: float) -> float:
    r"""The exponent γ of a power-function average: the greatest root of a cubic.

    $$
    \sigma_{\mathrm{rel}} = \frac{\sqrt{\gamma + 1}}{(\gamma + 2)\sqrt{\gamma + 3}}
    \quad\Leftrightarrow\quad
    \gamma^3 + 7\gamma^2 + (16 - \sigma_{\mathrm{rel}}^{-2})\,\gamma
    + 12 - \sigma_{\mathrm{rel}}^{-2} = 0
    $$

    Args:
      relative_std: σ_rel, in (0, 1/√12]; the upper end is the plain mean of all steps, γ = 0.

    Returns:
      γ ≥ 0.

    Raises:
      ValueError: where `relative_std` lies outside (0, 1/√12].

    References:
      Karras et al. (2024), arXiv:2312.02696, eqs. 123 to 126 and appendix C.
    """
    if not 0 < relative_std <= 12**-0.5:
        raise ValueError(f"a relative standard deviation lies in (0, 1/√12], not {relative_std}")
    t = relative_std**-2
    return max(0.0, float(np.roots([1, 7, 16 - t, 12 - t]).real.max()))


class Snapshot(NamedTuple):
    """A tracked power-function average at some step.

    Attributes:
      step: train steps completed.
      relative_std: that of the average.
      average: the tree of arrays, such as `state.ema["unet"]["long"]`.
    """

    step: int
    relative_std: float
    average: Tree


def post_hoc_coefficients(
    snapshots: Sequence[Snapshot], step: int, relative_std: float
) -> np.ndarray:
    r"""The combination of snapshots that comes nearest to a power-function average, by its weights.

    The weights of an average over τ in [0, t] are p(τ) = (γ + 1) τ^γ / t^{γ + 1}. With p_i those of
    the snapshots and p those wanted, the coefficients are

    $$
    \arg\min_x \int \Bigl(\sum_i x_i\,p_i(\tau) - p(\tau)\Bigr)^2 d\tau, \qquad
    A x = b, \quad A_{ij} = \langle p_i, p_j\rangle, \quad b_i = \langle p_i, p\rangle
    $$

    $$
    \langle p_a, p_b\rangle =
    \frac{(\gamma_a + 1)(\gamma_b + 1)}{(\gamma_a + \gamma_b + 1)\,t_b}
    \left(\frac{t_a}{t_b}\right)^{\gamma_b}, \qquad t_a \le t_b
    $$

    Args:
      snapshots: of two or more tracked lengths, at several steps each.
      step: where the average wanted ends.
      relative_std: the length of the average wanted.

    Returns:
      One coefficient per snapshot, float64.

    Raises:
      ValueError: where there is no snapshot, a step is not positive, or a length lies outside
        (0, 1/√12].

    References:
      Karras et al. (2024), arXiv:2312.02696, section 3.2 and appendix C.
    """
    if not snapshots or min(step, *(s.step for s in snapshots)) < 1:
        raise ValueError("give at least one snapshot, and steps of at least 1")
    t = np.array([s.step for s in snapshots] + [step], np.float64)
    gamma = np.array([exponent(s.relative_std) for s in snapshots] + [exponent(relative_std)])
    a, b = np.minimum(t[:, None], t), np.maximum(t[:, None], t)
    later = np.where(t[:, None] > t, gamma[:, None], gamma)
    products = (gamma[:, None] + 1) * (gamma + 1) / (gamma[:, None] + gamma + 1) / b
    products *= (a / b) ** later
    # Profiles of unit norm: those of early snapshots are large, and would decide alone.
    norm = np.sqrt(np.diag(products))
    cosines = products / norm[:, None] / norm
    return (
        np.linalg.lstsq(cosines[:-1, :-1], cosines[:-1, -1], rcond=None)[0] * norm[-1] / norm[:-1]
    )


def post_hoc(snapshots: Sequence[Snapshot], step: int, relative_std: float) -> Tree:
    """The power-function average of any length at any step, from snapshots of tracked ones.

    Args:
      snapshots: of two or more tracked lengths, at several steps each, on one tree.
      step: where the average wanted ends; best between the first snapshot and the last.
      relative_std: the length of the average wanted; best between the tracked ones.

    Returns:
      The tree of NumPy arrays, in the types of the first snapshot, summed in float64.

    Raises:
      ValueError: as `post_hoc_coefficients` does.

    References:
      Karras et al. (2024), arXiv:2312.02696, section 3.2 and appendix C.
    """
    coefficients = post_hoc_coefficients(snapshots, step, relative_std)

    def combine(*leaves: Array) -> np.ndarray:
        parts = zip(coefficients, leaves, strict=True)
        total = sum(c * np.asarray(leaf, np.float64) for c, leaf in parts)
        return np.asarray(total).astype(leaves[0].dtype)

    return jax.tree.map(combine, *(s.average for s in snapshots))


def check(ema: Averages) -> None:
    """Checks the `ema` of a player.

    Args:
      ema: a number, a decay, or several by name.

    Raises:
      ValueError: where a number lies outside [0, 1), or a mapping is empty.
    """
    if isinstance(ema, Mapping):
        if not ema:
            raise ValueError("name at least one average, or give None")
        for one in ema.values():
            _decay(one)
    else:
        _decay(ema)


def start(ema: Averages, params: Tree) -> Tree:
    """The averages before the first step: copies, as a buffer cannot be donated twice.

    Args:
      ema: a player's.
      params: its parameters.

    Returns:
      A tree like `params`; where `ema` names several, an OrderedDict of such trees by name. (A
      plain dict would come out of `jax.jit` sorted, and lose which is the first.)
    """
    if isinstance(ema, Mapping):
        return OrderedDict((name, jax.tree.map(jnp.copy, params)) for name in ema)
    return jax.tree.map(jnp.copy, params)


def update(ema: Averages, average: Tree, params: Tree, step: Array) -> Tree:
    """The averages after an update of the parameters.

    Args:
      ema: a player's.
      average: before, as `start` or `update` returned it.
      params: updated.
      step: train steps completed before this one.

    Returns:
      The averages, like `average`.
    """
    if isinstance(ema, Mapping):
        return OrderedDict((k, update(one, average[k], params, step)) for k, one in ema.items())
    return optax.incremental_update(params, average, 1 - _decay(ema)(step))


def _decay(ema: float | Decay) -> Decay:
    return ema if callable(ema) else constant(ema)
