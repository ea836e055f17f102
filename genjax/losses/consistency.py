"""Consistency training and distillation: one network value along each trajectory of the ODE."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp


def _is_batch(key):
    return key.ndim == (1 if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else 2)


def _split(key, n, x):
    if not _is_batch(key):
        return tuple(jax.random.split(key, n))
    if key.shape[0] != x.shape[0]:
        raise ValueError(f"give one key, or one per example: {key.shape[0]} keys for x {x.shape}")
    parts = jax.vmap(lambda k: jax.random.split(k, n))(key)
    return tuple(parts[:, i] for i in range(n))


def _normal(key, shape, dtype):
    if not _is_batch(key):
        return jax.random.normal(key, shape, dtype)
    return jax.vmap(lambda k: jax.random.normal(k, shape[1:], dtype))(key)


def _expand(scale, x):
    return scale.reshape(scale.shape + (1,) * (x.ndim - 1))


def _squared_norm(difference):
    difference = difference.astype(jnp.promote_types(difference.dtype, jnp.float32))
    return jnp.sum(difference**2, axis=tuple(range(1, difference.ndim)))


def boundary(network, *, schedule, data_std=0.5) -> Callable:
    """f(z, t) = c_skip·z + c_out·network(c_in·z, t), which is z itself at t = 0.

    With d = σ(t) − σ(0): c_skip = s²/(d² + s²), c_out = d·s/√(σ² + s²), c_in = 1/√(σ² + s²), s =
    data_std; for schedules with α = 1. Song et al. 2023, "Consistency Models".
    """

    def predict(z, t):
        sigma = schedule.sigma(t)
        distance = sigma - schedule.sigma(jnp.zeros_like(t))
        spread = jnp.sqrt(sigma**2 + data_std**2)
        skip = data_std**2 / (distance**2 + data_std**2)
        out = network((z * _expand(1 / spread, z)).astype(z.dtype), t)
        return _expand(skip, z) * z + _expand(distance * data_std / spread, z) * out

    return predict


def squared(a, b):
    """‖a − b‖², [B]. Song et al. 2023."""
    return _squared_norm(a - b)


def pseudo_huber(a, b, constant=None):
    """√(‖a − b‖² + c²) − c, [B]; c = 0.00054·√D by default, D the size of an example.

    Song & Dhariwal 2023, "Improved Techniques for Training Consistency Models".
    """
    c = 0.00054 * math.sqrt(math.prod(a.shape[1:])) if constant is None else constant
    square = _squared_norm(a - b)
    # The difference of the root and c, without the difference.
    return square / (jnp.sqrt(square + c**2) + c)


def uniform_pairs(steps) -> Callable:
    """pairs(key, n) -> (s, t) = ((i − 1)/steps, i/steps), i uniform on 1 … steps.

    On the EDM schedule these are neighbours of Karras et al.'s noise levels. Song et al. 2023.
    steps may be traced, as in a curriculum.
    """

    def pairs(key, n):
        if _is_batch(key):
            i = jax.vmap(lambda k: jax.random.randint(k, (), 1, steps + 1))(key)
        else:
            i = jax.random.randint(key, (n,), 1, steps + 1)
        return (i - 1) / steps, i / steps

    return pairs


def lognormal_pairs(steps, *, schedule, mean=-1.1, std=2.0) -> Callable:
    """As `uniform_pairs`, with i in proportion to N(ln σ/α; mean, std²)'s mass between its levels.

    Song & Dhariwal 2023, section 3.5: the erf's difference of theirs, drawn as the interval that
    holds a log-normal level truncated to the schedule's ends. steps may be traced.
    """

    def draw(key, shape):
        ends = -0.5 * schedule.log_snr(jnp.array([0.0, 1.0]))
        low, high = (ends - mean) / std
        level = mean + std * jax.random.truncated_normal(key, low, high, shape)
        return jnp.clip(jnp.ceil(schedule.time(-2 * level) * steps), 1, steps)

    def pairs(key, n):
        i = jax.vmap(lambda k: draw(k, ()))(key) if _is_batch(key) else draw(key, (n,))
        return (i - 1) / steps, i / steps

    return pairs


def doubling(step, total, first=10, last=1280) -> jax.Array:
    """The intervals at training step of total: min(first·2^⌊step/K⌋, last), an integer.

    K = ⌊total / (log2⌊last/first⌋ + 1)⌋. Song & Dhariwal 2023, their N(k) − 1.
    """
    doublings = math.log2(last // first)
    period = max(int(total / (doublings + 1)), 1)
    return jnp.minimum(first * 2 ** jnp.minimum(step // period, math.ceil(doublings)), last)


def square_root(step, total, first=2, last=150) -> jax.Array:
    """The intervals at training step of total: ⌈√(step/total·((last + 1)² − first²) + first²) − 1⌉.

    Song et al. 2023, appendix C, their N(k) − 1: nearly first at the start, last at the end.
    """
    share = jnp.clip(step / total, 0, 1)
    return jnp.ceil(jnp.sqrt(share * ((last + 1) ** 2 - first**2) + first**2) - 1).astype(int)


def teacher_decay(intervals, first=2, start=0.9) -> jax.Array:
    """The decay of the moving average that is the teacher: exp(first·ln(start) / (intervals + 1)).

    The more intervals of the curriculum `square_root`, the slower the teacher. Song et al. 2023,
    appendix C, with N = intervals + 1 and their μ_0 = start, s_0 = first.
    """
    return jnp.exp(first * math.log(start) / (intervals + 1))


def inverse_gap(sigma_s, sigma_t):
    """w = 1 / (σ_t − σ_s). Song & Dhariwal 2023."""
    return 1 / (sigma_t - sigma_s)


def even(sigma_s, sigma_t):
    """w = 1. Song et al. 2023."""
    return jnp.ones_like(sigma_t)


def _pair(times, key, x):
    s, t = times(key, x.shape[0]) if callable(times) else map(jnp.asarray, times)
    if not s.shape == t.shape == x.shape[:1]:
        raise ValueError(f"times must be two arrays [B]: {s.shape}, {t.shape} for x {x.shape}")
    return s, t


def _loss(student, teacher, z_s, z_t, s, t, schedule, distance, weight):
    later, earlier = student(z_t, t), jax.lax.stop_gradient(teacher(z_s, s))
    if not later.shape == earlier.shape == z_t.shape:
        shapes = f"{later.shape} and {earlier.shape}"
        raise ValueError(f"student and teacher must return x's shape {z_t.shape}, got {shapes}")
    return weight(schedule.sigma(s), schedule.sigma(t)) * distance(later, earlier)


def training(
    student, teacher, x, key, *, schedule, times, distance=pseudo_huber, weight=inverse_gap
) -> jax.Array:
    """w(σ_s, σ_t)·d(student(z_t, t), sg(teacher(z_s, s))), z_t and z_s of one x and one ε, s < t.

    student, teacher(z [B, ...], t [B]) -> estimates of the data, such as `boundary`'s; the teacher
    is the student itself (Song & Dhariwal 2023) or its moving average (Song et al. 2023). times is
    (s, t), two [B], or times(key, n) -> (s, t). Returns [B]. Raises ValueError if shapes differ.
    """
    time_key, noise_key = _split(key, 2, x)
    s, t = _pair(times, time_key, x)
    clean = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    eps = _normal(noise_key, x.shape, clean.dtype)
    z_s, z_t = (
        (_expand(schedule.alpha(u), x) * clean + _expand(schedule.sigma(u), x) * eps).astype(
            x.dtype
        )
        for u in (s, t)
    )
    return _loss(student, teacher, z_s, z_t, s, t, schedule, distance, weight)


def distillation(
    student, teacher, solve, x, key, *, schedule, times, distance=squared, weight=even
) -> jax.Array:
    """w·d(student(z_t, t), sg(teacher(solve(z_t, t, s), s))), [B], s < t.

    solve(z, t, s) takes one step of the probability flow ODE of a trained model, such as `heun`.
    The other arguments are those of `training`. Song et al. 2023, algorithm 2.
    """
    time_key, noise_key = _split(key, 2, x)
    s, t = _pair(times, time_key, x)
    clean = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    eps = _normal(noise_key, x.shape, clean.dtype)
    z_t = _expand(schedule.alpha(t), x) * clean + _expand(schedule.sigma(t), x) * eps
    z_t = z_t.astype(x.dtype)
    z_s = jax.lax.stop_gradient(solve(z_t, t, s)).astype(x.dtype)
    return _loss(student, teacher, z_s, z_t, s, t, schedule, distance, weight)


def heun(predict, *, schedule, target) -> Callable:
    """solve(z, t, s): one step of Heun's method on d(z/α)/d(σ/α) = ε̂, of second order.

    predict(z, t) predicts `target` (its to_noise gives ε̂). Karras et al. 2022, algorithm 1.
    """

    def noise(z, t):
        return target.to_noise(predict(z, t), z, schedule.alpha(t), schedule.sigma(t))

    def solve(z, t, s):
        alpha_t, alpha_s = schedule.alpha(t), schedule.alpha(s)
        scale = _expand(alpha_s / alpha_t, z)
        width = _expand(schedule.sigma(s) - schedule.sigma(t) * alpha_s / alpha_t, z)
        first = noise(z, t)
        second = noise((scale * z + width * first).astype(z.dtype), s)
        return scale * z + width * 0.5 * (first + second)

    return solve
