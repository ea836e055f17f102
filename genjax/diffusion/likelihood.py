"""Log-likelihood by the probability-flow ODE, with an exact or an estimated trace."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys
from genjax.diffusion.protocols import InvertibleSchedule, Predict, Target
from genjax.diffusion.sampling_loop import check_order, noise_in_data, positive
from genjax.numerics import check_floats, check_has, widen

# f(time, state) -> d state/d time, of any tree of arrays.
Derivative: TypeAlias = Callable[[Array, Any], Any]
# (f, y) -> f(y), and the trace of each example's Jacobian [B].
_Trace: TypeAlias = Callable[[Callable[[Array], Array], Array], tuple[Array, Array]]


class LogLikelihood(NamedTuple):
    """What `log_likelihood` returns.

    Attributes:
      log_prob: log p(x) in nats, one value per example [B].
      latent: the noise z at steps[0] that x came from, like x.
    """

    log_prob: Array
    latent: Array


def rk4(f: Derivative, state: Any, times: Array) -> Any:
    r"""The classical fourth-order Runge-Kutta method, one step per interval of width w.

    $$
    \begin{aligned}
    y_{i+1} &= y_i + \tfrac{w}{6} (k_1 + 2 k_2 + 2 k_3 + k_4), \qquad k_1 = f(t_i, y_i), \\
    k_2 &= f(t_i + \tfrac w2, y_i + \tfrac w2 k_1), \quad
    k_3 = f(t_i + \tfrac w2, y_i + \tfrac w2 k_2), \quad k_4 = f(t_i + w, y_i + w k_3)
    \end{aligned}
    $$

    Args:
      f: (time, state) -> d state/d time.
      state: the state at times[0], any tree of arrays.
      times: [n + 1], increasing or decreasing.

    Returns:
      The state at times[-1].
    """
    places = jnp.array([0, 0.5, 0.5, 1], times.dtype)
    weights = jnp.array([1, 2, 2, 1], times.dtype) / 6

    def step(state: Any, ends: Array) -> tuple[Any, None]:
        width = ends[1] - ends[0]

        # Four items of a scan, so that f is traced once.
        def stage(carry: tuple[Any, Any], item: tuple[Array, Array]) -> tuple[Any, None]:
            slope, total = carry
            place, weight = item
            here = jax.tree.map(lambda y, k: y + place * width * k, state, slope)
            slope = f(ends[0] + place * width, here)
            return (slope, jax.tree.map(lambda s, k: s + weight * width * k, total, slope)), None

        still = jax.tree.map(jnp.zeros_like, state)
        (_, state), _ = jax.lax.scan(stage, (still, state), (places, weights))
        return state, None

    return jax.lax.scan(step, state, jnp.stack([times[:-1], times[1:]], 1))[0]


def log_likelihood(
    predict: Predict,
    x: Array,
    *,
    schedule: InvertibleSchedule,
    target: Target,
    steps: Array,
    key: Array | None = None,
    odeint: Callable[[Derivative, Any, Array], Any] = rk4,
) -> LogLikelihood:
    r"""The log-likelihood of data under the probability-flow ODE.

    $$
    \log p(x) = \log \mathcal{N}(z_T; 0, \sigma_T^2 I)
      + \log \Bigl|\det \frac{\partial z_T}{\partial x}\Bigr|
    $$

    In the coordinates y = z/√(α² + σ²) and the angle θ = arctan(σ/α) the equation
    dy/dθ = cos θ ε̂ − sin θ x̂ has no singularity at either end of any schedule. Where σ = 0, ε̂ is
    that of the prediction: noise, velocity, flow and edm determine it, data and score are taken to
    have none, as is right for independent pairs of data and noise.

    Args:
      predict: (z [B, ...], t [B]) -> array like z, the prediction that `target` names; each
        example's from its own z.
      x: data [B, ...], taken as z at steps[-1] (for images: dequantised, and subtract the logarithm
        of the scaling).
      schedule: has alpha(t), sigma(t) and time(log_snr), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      steps: times [n + 1], strictly decreasing, the nodes of the solver.
      key: one PRNG key, or one per example [B], for Hutchinson's estimate of the trace with one
        Rademacher probe per example: unbiased, and average it over keys. None takes the exact
        trace, at the cost of one derivative for each element of an example.
      odeint: (f, state, times) -> state at times[-1], where f(time, state) is its derivative. For
        an adaptive one, with diffrax: `lambda f, y, ts: jax.tree.map(lambda a: a[0], diffeqsolve(
        ODETerm(lambda t, y, _: f(t, y)), Tsit5(), ts[0], ts[-1], None, y,
        stepsize_controller=PIDController(rtol, atol)).ys)`.

    Returns:
      The log-likelihood in nats [B], and the noise that x came from.

    Raises:
      TypeError: where an argument is a class or a name in place of an object.
      ValueError: where x is of integers, `steps` do not strictly decrease in 0..1, a prediction is
        not shaped like z, or there are keys for another number of examples.

    References:
      Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations"
      (2021), arXiv:2011.13456, eq. 39.
    """
    check_floats(x=x)
    check_has("alpha sigma time", "schedules.VP()", schedule=schedule)
    check_has("to_data", "predictions.noise", target=target)
    steps = jnp.asarray(keys.check_times(steps, "steps"), float)
    check_order(steps, strict=True)
    steps = jnp.flip(steps)
    alphas, sigmas = schedule.alpha(steps), schedule.sigma(steps)
    angles, radii = jnp.arctan2(sigmas, alphas), jnp.hypot(alphas, sigmas)
    x32 = widen(x)
    size = math.prod(x.shape[1:])

    def velocity(y: Array, angle: Array) -> Array:
        log_snr = 2 * (jnp.log(jnp.maximum(jnp.cos(angle), 0)) - jnp.log(jnp.sin(angle)))
        t = jnp.clip(schedule.time(log_snr), steps[0], steps[-1])
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        z = y * jnp.hypot(alpha, sigma)
        prediction = predict(z.astype(x.dtype), jnp.full(z.shape[:1], t))
        if prediction.shape != z.shape:
            raise ValueError(f"predict returned shape {prediction.shape} for z of shape {z.shape}")
        prediction = prediction.astype(z.dtype)
        data = target.to_data(prediction, z, alpha, sigma)
        noise = (z - alpha * data) / positive(sigma)
        implied = noise_in_data(target, prediction, z, alpha, sigma)
        return jnp.where(sigma > 0, jnp.cos(angle) * noise - jnp.sin(angle) * data, implied)

    trace: _Trace = _exact
    if key is not None:
        probe = keys.draw(lambda k, s: jax.random.rademacher(k, s, x32.dtype), key, x32.shape)
        trace = _hutchinson(probe)

    def derivative(angle: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        return trace(lambda y: velocity(y, angle), state[0])

    start = (x32 / radii[0], jnp.zeros(x.shape[:1], x32.dtype))
    y, divergence = odeint(derivative, start, angles)
    std = jnp.sin(angles[-1])
    squares = jnp.sum(jnp.square(y / std), axis=tuple(range(1, y.ndim)))
    prior = -0.5 * squares - size * (0.5 * math.log(2 * math.pi) + jnp.log(std))
    return LogLikelihood(
        prior + divergence - size * jnp.log(radii[0]), (y * radii[-1]).astype(x.dtype)
    )


def _exact(f: Callable[[Array], Array], y: Array) -> tuple[Array, Array]:
    """f(y), and the trace of each example's Jacobian, one element of all examples at a time."""
    value, pushforward = jax.linearize(f, y)
    size = math.prod(y.shape[1:])

    def add(total: Array, i: Array) -> tuple[Array, None]:
        unit = jax.nn.one_hot(i, size, dtype=y.dtype).reshape(y.shape[1:])
        unit = jnp.broadcast_to(unit[None], y.shape)
        return total + _inner(unit, pushforward(unit)), None

    return value, jax.lax.scan(add, jnp.zeros(y.shape[:1], y.dtype), jnp.arange(size))[0]


def _hutchinson(probe: Array) -> _Trace:
    def trace(f: Callable[[Array], Array], y: Array) -> tuple[Array, Array]:
        value, tangent = jax.jvp(f, (y,), (probe,))
        return value, _inner(probe, tangent)

    return trace


def _inner(a: Array, b: Array) -> Array:
    return jnp.sum(a * b, axis=tuple(range(1, a.ndim)))
