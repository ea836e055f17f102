"""Log-likelihood by the probability-flow ODE, with an exact or an estimated trace."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp


class LogLikelihood(NamedTuple):
    """log p(x) of each example in nats [B], and the noise z at steps[0] that x came from."""

    log_prob: jax.Array
    latent: jax.Array


def rk4(f, state, times):
    """The classical fourth-order Runge-Kutta method, one step an interval: state at times[-1].

    f(time, state) -> d state/d time; state is any tree of arrays, times [n + 1] in either order.
    """
    places = jnp.array([0, 0.5, 0.5, 1], times.dtype)
    weights = jnp.array([1, 2, 2, 1], times.dtype) / 6

    def step(state, ends):
        width = ends[1] - ends[0]

        # Four items of a scan, so that f is traced once.
        def stage(carry, item):
            slope, total = carry
            place, weight = item
            here = jax.tree.map(lambda y, k: y + place * width * k, state, slope)
            slope = f(ends[0] + place * width, here)
            return (slope, jax.tree.map(lambda s, k: s + weight * width * k, total, slope)), None

        still = jax.tree.map(jnp.zeros_like, state)
        (_, state), _ = jax.lax.scan(stage, (still, state), (places, weights))
        return state, None

    return jax.lax.scan(step, state, jnp.stack([times[:-1], times[1:]], 1))[0]


def log_likelihood(predict, x, *, schedule, target, steps, key=None, odeint=rk4) -> LogLikelihood:
    """log p(x) = log N(z_T; 0, σ_T² I) + log |dz_T/dx| along the probability-flow ODE.

    Song et al. 2021, "Score-Based Generative Modeling through SDEs", eq. 39, in the coordinates
    y = z/√(α² + σ²) and the angle θ = arctan(σ/α), in which the equation dy/dθ = cos θ ε̂ − sin θ x̂
    has no singularity at either end of any schedule.

    Args:
      predict: (z [B, ...], t [B]) -> array like z, what `target` says the network predicts; each
        example's from its own z.
      x: data [B, ...], taken as z at steps[-1] (for images: dequantised, and subtract the logarithm
        of the scaling).
      schedule: has alpha(t), sigma(t) and time(log_snr), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      steps: times [n + 1], decreasing, the nodes of the solver.
      key: one PRNG key, or one per example [B], for Hutchinson's estimate of the trace with one
        Rademacher probe an example: unbiased, and average it over keys. None takes the exact
        trace, at the cost of one derivative for each element of an example.
      odeint: (f, state, times) -> state at times[-1], where f(time, state) is its derivative. For
        an adaptive one, with diffrax: `lambda f, y, ts: jax.tree.map(lambda a: a[0], diffeqsolve(
        ODETerm(lambda t, y, _: f(t, y)), Tsit5(), ts[0], ts[-1], None, y,
        stepsize_controller=PIDController(rtol, atol)).ys)`.

    Returns:
      A `LogLikelihood`.
    """
    steps = jnp.flip(jnp.asarray(steps, float))
    alphas, sigmas = schedule.alpha(steps), schedule.sigma(steps)
    angles, radii = jnp.arctan2(sigmas, alphas), jnp.hypot(alphas, sigmas)
    x32 = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    size = math.prod(x.shape[1:])

    def velocity(y, angle):
        log_snr = 2 * (jnp.log(jnp.maximum(jnp.cos(angle), 0)) - jnp.log(jnp.sin(angle)))
        t = jnp.clip(schedule.time(log_snr), steps[0], steps[-1])
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        z = y * jnp.hypot(alpha, sigma)
        prediction = predict(z.astype(x.dtype), jnp.full(z.shape[:1], t))
        if prediction.shape != z.shape:
            raise ValueError(f"predict gave shape {prediction.shape} for z of shape {z.shape}")
        data = target.to_data(prediction.astype(z.dtype), z, alpha, sigma)
        noise = (z - alpha * data) / jnp.where(sigma > 0, sigma, 1)
        return jnp.where(sigma > 0, jnp.cos(angle) * noise - jnp.sin(angle) * data, 0)

    trace = _exact if key is None else _hutchinson(_rademacher(key, x32.shape, x32.dtype))

    def derivative(angle, state):
        return trace(lambda y: velocity(y, angle), state[0])

    start = (x32 / radii[0], jnp.zeros(x.shape[:1], x32.dtype))
    y, divergence = odeint(derivative, start, angles)
    std = jnp.sin(angles[-1])
    squares = jnp.sum(jnp.square(y / std), axis=tuple(range(1, y.ndim)))
    prior = -0.5 * squares - size * (0.5 * math.log(2 * math.pi) + jnp.log(std))
    return LogLikelihood(
        prior + divergence - size * jnp.log(radii[0]), (y * radii[-1]).astype(x.dtype)
    )


def _exact(f, y):
    """f(y), and the trace of each example's Jacobian, one element of all examples at a time."""
    value, pushforward = jax.linearize(f, y)
    size = math.prod(y.shape[1:])

    def add(total, i):
        unit = jax.nn.one_hot(i, size, dtype=y.dtype).reshape(y.shape[1:])
        unit = jnp.broadcast_to(unit[None], y.shape)
        return total + _inner(unit, pushforward(unit)), None

    return value, jax.lax.scan(add, jnp.zeros(y.shape[:1], y.dtype), jnp.arange(size))[0]


def _hutchinson(probe):
    def trace(f, y):
        value, tangent = jax.jvp(f, (y,), (probe,))
        return value, _inner(probe, tangent)

    return trace


def _inner(a, b):
    return jnp.sum(a * b, axis=tuple(range(1, a.ndim)))


def _rademacher(key, shape, dtype):
    """±1 with equal chances; with one key per example, example i's from key i alone."""
    ndim = 0 if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else 1
    if key.ndim == ndim:
        return jax.random.rademacher(key, shape, dtype)
    if key.shape[0] != shape[0]:
        raise ValueError(f"{key.shape[0]} keys for shape {shape}: give one key, or one per example")
    return jax.vmap(lambda k: jax.random.rademacher(k, shape[1:], dtype))(key)
