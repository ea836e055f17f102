"""Consistency training and distillation: one network value along each trajectory of the ODE."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys
from genjax.numerics import (
    check_floats,
    check_has,
    check_static,
    expand,
    math_of,
    sum_per_example,
    widen,
)

_APART = 2.0**-20  # between two times, whose noise levels then differ in float32


def boundary(
    network: Callable[[Array, Array], Array], *, schedule: Any, data_std: float = 0.5
) -> Callable[[Array, Array], Array]:
    r"""A consistency function that is the identity at t = 0, made of any network.

    $$
    f(z, t) = \frac{s^2}{d^2 + s^2} \, z
    + \frac{d \, s}{\sqrt{\sigma^2 + s^2}} \,
    \mathrm{network}\!\left(\frac{z}{\sqrt{\sigma^2 + s^2}}, t\right),
    \qquad d = \sigma(t) - \sigma(0)
    $$

    Args:
      network: (z [B, ...], t [B]) -> an array like z; z comes with unit variance.
      schedule: a schedule with α = 1, such as schedules.EDM.
      data_std: s, the standard deviation of the data.

    Returns:
      f(z [B, ...], t [B]) -> an estimate of the data, like z.

    Raises:
      TypeError: where `schedule` is a class or a name in place of an object.
      ValueError: when called, where z is of integers.

    References:
      Song et al., "Consistency Models" (2023), arXiv:2303.01469, appendix C.
    """

    check_has("sigma", "schedules.EDM()", schedule=schedule)

    def predict(z: Array, t: Array) -> Array:
        check_floats(z=z)
        sigma = schedule.sigma(t)
        distance = sigma - schedule.sigma(jnp.zeros_like(t))
        spread = jnp.sqrt(sigma**2 + data_std**2)
        skip = data_std**2 / (distance**2 + data_std**2)
        out = network((z * expand(1 / spread, z)).astype(z.dtype), t)
        return expand(skip, z) * z + expand(distance * data_std / spread, z) * out

    return predict


def squared(a: Array, b: Array) -> Array:
    r"""The squared distance.

    $$
    d(a, b) = \lVert a - b \rVert^2
    $$

    Args:
      a: [B, ...].
      b: [B, ...].

    Returns:
      [B].

    References:
      Song et al., "Consistency Models" (2023), arXiv:2303.01469.
    """
    return sum_per_example(widen(a - b) ** 2)


def pseudo_huber(a: Array, b: Array, constant: float | None = None) -> Array:
    r"""The pseudo-Huber distance: squared near 0, linear far out.

    $$
    d(a, b) = \sqrt{\lVert a - b \rVert^2 + c^2} - c
    $$

    Args:
      a: [B, ...].
      b: [B, ...].
      constant: c; None for 0.00054·√D, D the number of elements of an example.

    Returns:
      [B].

    References:
      Song & Dhariwal, "Improved Techniques for Training Consistency Models" (2023),
        arXiv:2310.14189, section 3.3.
    """
    c = 0.00054 * math.sqrt(math.prod(a.shape[1:])) if constant is None else constant
    square = sum_per_example(widen(a - b) ** 2)
    # The difference of the root and c, without the difference.
    return square / (jnp.sqrt(square + c**2) + c)


def uniform_pairs(steps: int | Array) -> Callable[[Array, int], tuple[Array, Array]]:
    r"""A sampler of neighbouring times of an even grid.

    $$
    (s, t) = \left(\frac{i - 1}{\mathrm{steps}}, \frac{i}{\mathrm{steps}}\right), \qquad
    i \sim U\{1, \ldots, \mathrm{steps}\}
    $$

    On the EDM schedule these are neighbours of Karras et al.'s noise levels.

    Args:
      steps: intervals of the grid; may be traced, as in a curriculum.

    Returns:
      pairs(key, n) -> (s, t), each [n]; key is one key or one per example.

    References:
      Song et al., "Consistency Models" (2023), arXiv:2303.01469, algorithm 3.
    """

    def pairs(key: Array, n: int) -> tuple[Array, Array]:
        i = keys.draw(lambda k, shape: jax.random.randint(k, shape, 1, steps + 1), key, (n,))
        return (i - 1) / steps, i / steps

    return pairs


def lognormal_pairs(
    steps: int | Array, *, schedule: Any, mean: float = -1.1, std: float = 2.0
) -> Callable[[Array, int], tuple[Array, Array]]:
    r"""As `uniform_pairs`, more often where a log-normal distribution of noise levels has mass.

    $$
    p(i) \propto
    \mathrm{erf}\!\left(\frac{\ln \sigma_i - \mathrm{mean}}{\sqrt2 \, \mathrm{std}}\right)
    - \mathrm{erf}\!\left(\frac{\ln \sigma_{i-1} - \mathrm{mean}}{\sqrt2 \, \mathrm{std}}\right)
    $$

    with σ/α in place of σ, drawn as the interval that holds a log-normal level truncated to the
    schedule's ends.

    Args:
      steps: intervals of the grid; may be traced, as in a curriculum.
      schedule: the noise schedule, with log_snr and time.
      mean: of ln σ/α.
      std: of ln σ/α.

    Returns:
      pairs(key, n) -> (s, t), each [n]; key is one key or one per example.

    Raises:
      TypeError: where `schedule` is a class or a name in place of an object.

    References:
      Song & Dhariwal, "Improved Techniques for Training Consistency Models" (2023),
        arXiv:2310.14189, section 3.5.
    """

    level = _levels(schedule, mean, std)

    def draw(key: Array, shape: tuple[int, ...]) -> Array:
        return jnp.clip(jnp.ceil(schedule.time(-2 * level(key, shape)) * steps), 1, steps)

    def pairs(key: Array, n: int) -> tuple[Array, Array]:
        i = keys.draw(draw, key, (n,))
        return (i - 1) / steps, i / steps

    return pairs


def _levels(schedule: Any, mean: float, std: float) -> Callable[[Array, tuple[int, ...]], Array]:
    """Draws ln σ/α of a log-normal distribution, truncated to the schedule's ends."""
    check_has("log_snr time", "schedules.EDM()", schedule=schedule)

    def draw(key: Array, shape: tuple[int, ...]) -> Array:
        ends = -0.5 * schedule.log_snr(jnp.array([0.0, 1.0]))
        low, high = (ends - mean) / std
        return mean + std * jax.random.truncated_normal(key, low, high, shape)

    return draw


def gap_pairs(
    gap: float | Array,
    *,
    schedule: Any,
    mean: float = -1.1,
    std: float = 2.0,
    slope: float = 8.0,
    sharpness: float = 1.0,
) -> Callable[[Array, int], tuple[Array, Array]]:
    r"""A sampler of log-normal noise levels, each with a lesser one at a relative distance.

    $$
    \sigma_s = \max\bigl(\sigma_t \, (1 - \mathrm{gap} \cdot n(\sigma_t)),\,
    \sigma_{\min}\bigr), \qquad
    n(\sigma) = 1 + \frac{\mathrm{slope}}{1 + e^{\mathrm{sharpness} \cdot \sigma}}, \qquad
    \ln \sigma_t \sim N(\mathrm{mean}, \mathrm{std}^2)
    $$

    with σ/α in place of σ, truncated to the schedule's ends. As `halving` makes the gap small,
    training goes over from diffusion, whose target is the image, to consistency.

    Args:
      gap: (σ_t − σ_s)/σ_t at great noise; may be traced, as in a curriculum.
      schedule: the noise schedule, with log_snr and time.
      mean: of ln σ/α.
      std: of ln σ/α.
      slope: by how much the gap is greater, halved, at small noise.
      sharpness: how soon that ends as the noise grows.

    Returns:
      pairs(key, n) -> (s, t), each [n]; key is one key or one per example.

    Raises:
      TypeError: where `schedule` is a class or a name in place of an object.

    References:
      Geng et al., "Consistency Models Made Easy" (2024), arXiv:2406.14548, its code.
    """
    draw = _levels(schedule, mean, std)

    def pairs(key: Array, n: int) -> tuple[Array, Array]:
        level = keys.draw(draw, key, (n,))
        share = gap * (1 + slope * jax.nn.sigmoid(-sharpness * jnp.exp(level)))
        least = -0.5 * schedule.log_snr(jnp.zeros(()))
        lesser = jnp.maximum(level + jnp.log1p(-jnp.minimum(share, 1)), least)
        # Rounded times are kept apart: `inverse_gap` divides by the distance of their levels.
        t = jnp.clip(schedule.time(-2 * level), _APART, 1)
        return jnp.clip(schedule.time(-2 * lesser), 0, t - _APART), t

    return pairs


def halving(step: int | Array, total: int, first: float = 0.5, halvings: int = 7) -> Array:
    r"""The relative distance of two noise levels at a training step, halved at equal distances.

    $$
    \mathrm{gap}(k) = \mathrm{first} \cdot 2^{-\min(\lfloor k / K \rfloor,\,
    \mathrm{halvings})}, \qquad
    K = \left\lfloor \frac{\mathrm{total}}{\mathrm{halvings} + 1} \right\rfloor
    $$

    Args:
      step: k, may be traced.
      total: training steps in all.
      first: the gap at the start.
      halvings: how often it is halved.

    Returns:
      For `gap_pairs`, like `step`.

    Raises:
      TypeError: where another argument than `step` is traced.

    References:
      Geng et al., "Consistency Models Made Easy" (2024), arXiv:2406.14548, its code.
    """
    check_static(total=total, first=first, halvings=halvings)
    period = max(total // (halvings + 1), 1)
    return first * 0.5 ** jnp.minimum(step // period, halvings)


def doubling(step: int | Array, total: int, first: int = 10, last: int = 1280) -> Array:
    r"""The number of intervals at a training step, doubled at equal distances.

    $$
    N(k) - 1 = \min\bigl(\mathrm{first} \cdot 2^{\lfloor k / K \rfloor}, \mathrm{last}\bigr), \qquad
    K = \left\lfloor \frac{\mathrm{total}}{\log_2 \lfloor \mathrm{last}/\mathrm{first} \rfloor + 1}
    \right\rfloor
    $$

    Args:
      step: k, may be traced.
      total: training steps in all.
      first: intervals at the start.
      last: intervals at the end.

    Returns:
      An integer, like `step`.

    Raises:
      TypeError: where another argument than `step` is traced.

    References:
      Song & Dhariwal, "Improved Techniques for Training Consistency Models" (2023),
        arXiv:2310.14189, section 3.4.
    """
    check_static(total=total, first=first, last=last)
    doublings = math.log2(last // first)
    period = max(int(total / (doublings + 1)), 1)
    return jnp.minimum(first * 2 ** jnp.minimum(step // period, math.ceil(doublings)), last)


def square_root(step: int | Array, total: int, first: int = 2, last: int = 150) -> Array:
    r"""The number of intervals at a training step, nearly `first` at the start, `last` at the end.

    $$
    N(k) - 1 = \left\lceil \sqrt{\frac{k}{\mathrm{total}}
    \bigl((\mathrm{last} + 1)^2 - \mathrm{first}^2\bigr) + \mathrm{first}^2} - 1 \right\rceil
    $$

    Args:
      step: k, may be traced.
      total: training steps in all.
      first: the paper's s₀.
      last: the paper's s₁.

    Returns:
      An integer, like `step`.

    References:
      Song et al., "Consistency Models" (2023), arXiv:2303.01469, appendix C.
    """
    share = jnp.clip(step / total, 0, 1)
    return jnp.ceil(jnp.sqrt(share * ((last + 1) ** 2 - first**2) + first**2) - 1).astype(int)


def teacher_decay(intervals: int | Array, first: int = 2, start: float = 0.9) -> Array:
    r"""The decay of the moving average that is the teacher, for the curriculum `square_root`.

    $$
    \mu = \exp\!\left(\frac{s_0 \ln \mu_0}{N}\right), \qquad N = \mathrm{intervals} + 1
    $$

    The more intervals, the slower the teacher. N counts the ends of the intervals, as in the paper;
    the authors' code divides by the number of intervals, N − 1, in its place:
    `teacher_decay(intervals - 1)`.

    Args:
      intervals: of the curriculum.
      first: s₀, the curriculum's.
      start: μ₀.

    Returns:
      In 0..1, like `intervals`.

    References:
      Song et al., "Consistency Models" (2023), arXiv:2303.01469, appendix C.
    """
    return jnp.exp(first * math_of(start).log(start) / (intervals + 1))


def inverse_gap(sigma_s: Array, sigma_t: Array) -> Array:
    r"""A weight that grows as neighbouring noise levels come closer.

    $$
    w = \frac{1}{\sigma_t - \sigma_s}
    $$

    Args:
      sigma_s: the lesser noise level, [B].
      sigma_t: the greater, [B].

    Returns:
      [B].

    References:
      Song & Dhariwal, "Improved Techniques for Training Consistency Models" (2023),
        arXiv:2310.14189, section 3.1.
    """
    return 1 / (sigma_t - sigma_s)


def even(sigma_s: Array, sigma_t: Array) -> Array:
    r"""No weight.

    $$
    w = 1
    $$

    Args:
      sigma_s: the lesser noise level, [B].
      sigma_t: the greater, [B].

    Returns:
      [B].

    References:
      Song et al., "Consistency Models" (2023), arXiv:2303.01469.
    """
    return jnp.ones_like(sigma_t)


def _loss(
    student: Callable[[Array, Array], Array],
    teacher: Callable[[Array, Array], Array],
    z: tuple[Array, Array],
    times: tuple[Array, Array],
    schedule: Any,
    distance: Callable[[Array, Array], Array],
    weight: Callable[[Array, Array], Array],
) -> Array:
    (z_s, z_t), (s, t) = z, times
    later, earlier = student(z_t, t), jax.lax.stop_gradient(teacher(z_s, s))
    found = [getattr(a, "shape", type(a).__name__) for a in (later, earlier)]
    if found != [z_t.shape] * 2:
        shapes = f"{found[0]} and {found[1]}"
        raise ValueError(f"student and teacher must return x's shape {z_t.shape}, got {shapes}")
    return weight(schedule.sigma(s), schedule.sigma(t)) * distance(later, earlier)


def training(
    student: Callable[[Array, Array], Array],
    teacher: Callable[[Array, Array], Array],
    x: Array,
    key: Array,
    *,
    schedule: Any,
    times: tuple[Array, Array] | Callable[[Array, int], tuple[Array, Array]],
    distance: Callable[[Array, Array], Array] = pseudo_huber,
    weight: Callable[[Array, Array], Array] = inverse_gap,
) -> Array:
    r"""The loss of consistency training, which needs no trained model.

    $$
    w(\sigma_s, \sigma_t) \, d\bigl(\mathrm{student}(z_t, t),
    \mathrm{sg}(\mathrm{teacher}(z_s, s))\bigr), \qquad
    z_u = \alpha(u) \, x + \sigma(u) \, \varepsilon, \quad s < t
    $$

    One noise ε serves both times.

    Args:
      student: (z [B, ...], t [B]) -> an estimate of the data, such as `boundary`'s.
      teacher: the student itself (Song & Dhariwal 2023) or its moving average (Song et al. 2023);
        it gets no gradient.
      x: clean data, [B, ...].
      key: one key, or one per example [B].
      schedule: the noise schedule, with alpha and sigma.
      times: (s, t), each [B] with s < t, or a sampler such as `lognormal_pairs`.
      distance: (a, b) -> d, [B].
      weight: (σ_s, σ_t) -> w, [B].

    Returns:
      [B].

    Raises:
      TypeError: where an argument is a class or a name in place of an object, or `times` no pair.
      ValueError: where x is of integers, the times are not [B], not in 0..1 or s > t, or student or
        teacher do not return x's shape.

    References:
      Song et al., "Consistency Models" (2023), arXiv:2303.01469, algorithm 3.
      Song & Dhariwal, "Improved Techniques for Training Consistency Models" (2023),
        arXiv:2310.14189.
    """
    check_floats(x=x)
    check_has("alpha sigma", "schedules.EDM()", schedule=schedule)
    time_key, noise_key = keys.split(key, 2, x.shape[0])
    s, t = keys.draw_time_pairs(times, time_key, x)
    clean = widen(x)
    eps = keys.normal(noise_key, x.shape, clean.dtype)

    def noisy(u: Array) -> Array:
        z = expand(schedule.alpha(u), x) * clean + expand(schedule.sigma(u), x) * eps
        return z.astype(x.dtype)

    return _loss(student, teacher, (noisy(s), noisy(t)), (s, t), schedule, distance, weight)


def distillation(
    student: Callable[[Array, Array], Array],
    teacher: Callable[[Array, Array], Array],
    solve: Callable[[Array, Array, Array], Array],
    x: Array,
    key: Array,
    *,
    schedule: Any,
    times: tuple[Array, Array] | Callable[[Array, int], tuple[Array, Array]],
    distance: Callable[[Array, Array], Array] = squared,
    weight: Callable[[Array, Array], Array] = even,
) -> Array:
    r"""The loss of consistency distillation, from a trained diffusion model.

    $$
    w(\sigma_s, \sigma_t) \, d\bigl(\mathrm{student}(z_t, t),
    \mathrm{sg}(\mathrm{teacher}(\mathrm{solve}(z_t, t, s), s))\bigr), \qquad
    z_t = \alpha(t) \, x + \sigma(t) \, \varepsilon, \quad s < t
    $$

    Args:
      student: (z [B, ...], t [B]) -> an estimate of the data, such as `boundary`'s.
      teacher: the moving average of the student, called alike; it gets no gradient.
      solve: (z, t, s) -> one step of the trained model's probability flow ODE, such as `heun_step`;
        it gets no gradient.
      x: clean data, [B, ...].
      key: one key, or one per example [B].
      schedule: the noise schedule, with alpha and sigma.
      times: (s, t), each [B] with s < t, or a sampler such as `uniform_pairs`.
      distance: (a, b) -> d, [B].
      weight: (σ_s, σ_t) -> w, [B].

    Returns:
      [B].

    Raises:
      TypeError: where an argument is a class or a name in place of an object, or `times` no pair.
      ValueError: where x is of integers, the times are not [B], not in 0..1 or s > t, or student or
        teacher do not return x's shape.

    References:
      Song et al., "Consistency Models" (2023), arXiv:2303.01469, algorithm 2.
    """
    check_floats(x=x)
    check_has("alpha sigma", "schedules.EDM()", schedule=schedule)
    time_key, noise_key = keys.split(key, 2, x.shape[0])
    s, t = keys.draw_time_pairs(times, time_key, x)
    clean = widen(x)
    eps = keys.normal(noise_key, x.shape, clean.dtype)
    z_t = expand(schedule.alpha(t), x) * clean + expand(schedule.sigma(t), x) * eps
    z_t = z_t.astype(x.dtype)
    z_s = jax.lax.stop_gradient(solve(z_t, t, s)).astype(x.dtype)
    return _loss(student, teacher, (z_s, z_t), (s, t), schedule, distance, weight)


def heun_step(
    predict: Callable[[Array, Array], Array], *, schedule: Any, target: Any
) -> Callable[[Array, Array, Array], Array]:
    r"""One step of Heun's method on the probability flow ODE, of second order.

    $$
    \frac{d(z / \alpha)}{d(\sigma / \alpha)} = \hat\varepsilon(z, t), \qquad
    \text{and } dz = \hat x \, d\alpha + \hat\varepsilon \, d\sigma
    \text{ where } \alpha(t) = 0
    $$

    There the prediction has to determine the data, as velocity, flow and data do; noise and score
    do not, and the step is NaN.

    Args:
      predict: (z [B, ...], t [B]) -> the prediction of `target`, like z.
      schedule: the noise schedule, with alpha and sigma.
      target: what `predict` predicts, with to_noise and to_data: genjax.diffusion.predictions.

    Returns:
      solve(z, t, s) -> z at s, for `distillation`.

    Raises:
      TypeError: where an argument is a class or a name in place of an object.
      ValueError: when called, where z is of integers.

    References:
      Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022),
        arXiv:2206.00364, algorithm 1.
    """

    check_has("alpha sigma", "schedules.EDM()", schedule=schedule)
    check_has("to_data to_noise", "predictions.noise", target=target)

    def estimates(z: Array, t: Array) -> tuple[Array, Array]:
        prediction, alpha, sigma = predict(z, t), schedule.alpha(t), schedule.sigma(t)
        noise = target.to_noise(prediction, z, alpha, sigma)
        return target.to_data(prediction, z, alpha, sigma), noise

    def solve(z: Array, t: Array, s: Array) -> Array:
        check_floats(z=z)
        alpha_t, alpha_s = schedule.alpha(t), schedule.alpha(s)
        pure = alpha_t == 0
        divisor = jnp.where(pure, 1, alpha_t)
        scale = expand(alpha_s / divisor, z)
        width = expand(schedule.sigma(s) - schedule.sigma(t) * alpha_s / divisor, z)
        pure, dalpha, dsigma = (
            expand(a, z) for a in (pure, alpha_s - alpha_t, schedule.sigma(s) - schedule.sigma(t))
        )
        data, first = estimates(z, t)
        slope = dalpha * data + dsigma * first
        euler = jnp.where(pure, z + slope, scale * z + width * first)
        data, second = estimates(euler.astype(z.dtype), s)
        from_pure = z + 0.5 * (slope + dalpha * data + dsigma * second)
        return jnp.where(pure, from_pure, scale * z + width * 0.5 * (first + second))

    return solve
