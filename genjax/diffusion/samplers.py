"""One-step samplers of diffusion and flow models: ancestral, DDIM, Euler, Heun."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

# The network is asked for the data x̂ and the noise ε̂ in z_t = α x̂ + σ ε̂, and z moves along
# dz = x̂ dα + ε̂ dσ. That is the probability-flow equation without a derivative in time, so that it
# holds for every schedule and stays finite where α = 0 or σ = 0.


def ancestral(
    predict,
    key,
    shape,
    *,
    schedule,
    target,
    steps,
    variance=0.0,
    start=None,
    clip=None,
    trajectory=False,
):
    """The reverse chain of DDPM: z_s ~ N(μ, β^v β̃^(1−v)) from the posterior q(z_s | z_t, x̂).

    With κ = 1 − SNR_t/SNR_s:  μ = (α_s/α_t)(1 − κ) z_t + α_s κ x̂,  β = κ σ_t²,  β̃ = κ σ_s².
    `variance` is v: 0 for β̃, 1 for β (Ho et al. 2020, section 3.2). A learned variance (Nichol &
    Dhariwal 2021, eq. 15) needs no flag: let `predict` return the pair (prediction, v), v like z.
    The step to σ_s = 0 adds no noise. Arguments and result as in `ddim`.
    """
    rows = _rows(schedule, steps)
    z, dtype = _start(key, shape, start, rows)

    def step(z, row):
        output = predict(z.astype(dtype), _times(row, z))
        prediction, v = output if isinstance(output, tuple) else (output, variance)
        data, noise = _split(prediction, z, row, target, clip)
        # α_s x̂ + (σ_s²/σ_t)(α_t/α_s) ε̂ is μ with z_t taken apart, finite at α_t = 0.
        ratio = row.alpha / row.alpha_next
        mean = row.alpha_next * data + ratio * row.sigma_next**2 / row.sigma * noise
        std = jnp.sqrt(row.fresh) * row.sigma**v * _positive(row.sigma_next) ** (1 - v)
        std = jnp.where(row.sigma_next > 0, std, 0)
        return mean + std * _normal(key, row.draw, z.shape, z.dtype)

    return _scan(step, z, rows, dtype, trajectory)


def ddim(
    predict,
    key,
    shape,
    *,
    schedule,
    target,
    steps,
    eta=0.0,
    start=None,
    clip=None,
    trajectory=False,
):
    """DDIM: z_s = α_s x̂ + √(σ_s² − c²) ε̂ + c ε with c = η σ_s √(1 − SNR_t/SNR_s).

    Song et al. 2021, eqs. 12 and 16. η = 0 is deterministic and of first order, η = 1 the ancestral
    sampler with variance β̃. As every sampler here it is one `lax.scan`: call it under `jax.jit`.

    Args:
      predict: (z [B, ...], t [B]) -> array like z, what `target` says the network predicts.
      key: one PRNG key, or one per example [B]: then example i depends on key i alone. May be None
        where nothing is drawn.
      shape: of the result, (B, ...).
      schedule: has alpha(t), sigma(t) and log_snr(t), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      steps: times [n + 1], decreasing from 1 (noise) to 0 (data), such as `steps.uniform(n)`.
      eta: a number in [0, 1].
      start: z at steps[0], of `shape`; drawn as σ ε, ε ~ N(0, I), if None. A start of less than 32
        bits is the dtype that `predict` sees and that is returned; sums run in float32.
      clip: (low, high), or a function of x̂, applied to every x̂, such as one of `thresholding`.
      trajectory: also return every state.

    Returns:
      z at steps[-1], of `shape`: if that is 0 the last x̂, with no noise left whatever σ(0) is. With
      `trajectory`, also all n + 1 states [n + 1, B, ...].
    """
    rows = _rows(schedule, steps)
    z, dtype = _start(key, shape, start, rows)

    def step(z, row):
        prediction = predict(z.astype(dtype), _times(row, z))
        data, noise = _split(prediction, z, row, target, clip)
        if eta == 0:
            return row.alpha_next * data + row.sigma_next * noise
        fresh = eta**2 * row.fresh
        kept = row.sigma_next * jnp.sqrt(1 - fresh)
        std = row.sigma_next * jnp.sqrt(fresh)
        drawn = _normal(key, row.draw, z.shape, z.dtype)
        return row.alpha_next * data + kept * noise + std * drawn

    return _scan(step, z, rows, dtype, trajectory)


def encode(predict, x, *, schedule, target, steps, sampler=ddim, clip=None, trajectory=False):
    """The noise whose deterministic sample is x, by walking the same `steps` backwards.

    DDIM inversion (Song et al. 2021, section 5.4), or of second order with `sampler=heun`:
    sampling from the result as `start` gives x back up to the sampler's error. Where σ(0) = 0 the
    first step takes ε̂ = 0, as data hold no noise, whatever the network says.

    Args:
      x: data, [B, ...].
      steps: the decreasing times of the sampler.

    Returns:
      z at steps[0], like x; with `trajectory`, also the states at all of `steps` reversed.
    """
    return sampler(
        predict,
        None,
        x.shape,
        schedule=schedule,
        target=target,
        steps=jnp.flip(jnp.asarray(steps)),
        start=x,
        clip=clip,
        trajectory=trajectory,
    )


class Churn(NamedTuple):
    """EDM's stochasticity: γ = min(amount/n, √2 − 1) where low ≤ σ/α ≤ high, and 0 elsewhere.

    S_churn, S_tmin and S_tmax of Karras et al. 2022, algorithm 2; `noise` is S_noise, a factor on
    the standard deviation of what is added.
    """

    amount: float
    low: float = 0.0
    high: float = math.inf
    noise: float = 1.0


def euler(
    predict,
    key,
    shape,
    *,
    schedule,
    target,
    steps,
    churn=None,
    start=None,
    clip=None,
    trajectory=False,
):
    """Euler's method: z_s = ẑ + x̂ (α_s − α_t̂) + ε̂ (σ_s − σ_t̂), with ẑ, t̂ and `churn` of `heun`.

    Without churn it is `ddim` with η = 0, and on a rectified flow Euler's method in time
    (Karras et al. 2022). Other arguments and result as in `ddim`.
    """
    rows = _rows(schedule, steps)
    z, dtype = _start(key, shape, start, rows)

    def step(z, item):
        row, kick = item
        z = _add_noise(z, row, kick, key)
        data, noise = _split(predict(z.astype(dtype), _times(row, z)), z, row, target, clip)
        return row.alpha_next * data + row.sigma_next * noise

    return _scan(step, z, _churned(rows, schedule, churn), dtype, trajectory)


def heun(
    predict,
    key,
    shape,
    *,
    schedule,
    target,
    steps,
    churn=None,
    start=None,
    clip=None,
    trajectory=False,
):
    """Heun's method with optional churn: algorithm 2 of Karras et al. 2022, on any schedule.

    ẑ is z_t with noise added until σ/α is 1 + γ times what it was, t̂ its time. Then with
    d(z, t) = x̂(z, t) (α_s − α_t̂) + ε̂(z, t) (σ_s − σ_t̂):
    z' = ẑ + d(ẑ, t̂),  z_s = ẑ + (d(ẑ, t̂) + d(z', s))/2, but z_s = z' in the last step.
    Second order; n steps are 2n − 1 evaluations of the network.

    Args:
      churn: a `Churn`, for which the schedule needs time(log_snr), or None for none.

    Other arguments and result as in `ddim`.
    """
    rows = _rows(schedule, steps)
    z, dtype = _start(key, shape, start, rows)
    rows, kick = _churned(rows, schedule, churn)
    change = (rows.alpha_next - rows.alpha, rows.sigma_next - rows.sigma)
    ends = rows._replace(
        t=jnp.asarray(steps, float)[1:], alpha=rows.alpha_next, sigma=rows.sigma_next
    )
    still = None if kick is None else (jnp.ones_like(kick[0]), jnp.zeros_like(kick[1]))
    # A step and its correction are two items of one scan: the network is traced once, and the
    # correction that the last step has none of is not computed.
    items = jax.tree.map(
        lambda a, b: jnp.stack([a, b], 1).reshape(-1)[:-1],
        (rows, kick, change, jnp.zeros(rows.t.shape, bool)),
        (ends, still, change, jnp.ones(rows.t.shape, bool)),
    )

    def step(carry, item):
        z, base, slope = carry
        row, kick, (dalpha, dsigma), correct = item
        z = _add_noise(z, row, kick, key)
        data, noise = _split(predict(z.astype(dtype), _times(row, z)), z, row, target, clip)
        d = dalpha * data + dsigma * noise
        # z + d in the form that ends on the data exactly.
        euler = row.alpha_next * data + row.sigma_next * noise
        return jnp.where(correct, base + (slope + d) / 2, euler), z, d

    def body(carry, item):
        carry = step(carry, item)
        return carry, carry[0].astype(dtype) if trajectory else None

    (last, *_), path = jax.lax.scan(body, (z, z, z), items)
    last = last.astype(dtype)
    if not trajectory:
        return last
    return last, jnp.concatenate([z[None].astype(dtype), path[1::2], last[None]])


def _churned(rows, schedule, churn):
    """The steps from t̂ on, and the (scale, std) with which ẑ = scale z_t + std ε."""
    if churn is None:
        return rows, None
    alpha = _positive(rows.alpha)
    ratio = rows.sigma / alpha
    touched = (rows.alpha > 0) & (ratio > 0) & (churn.low <= ratio) & (ratio <= churn.high)
    gamma = min(churn.amount / rows.t.size, math.sqrt(2) - 1)
    t = schedule.time(-2 * (jnp.log(_positive(ratio)) + jnp.log1p(gamma)))
    t = jnp.where(touched, t, rows.t)
    raised_alpha, raised_sigma = schedule.alpha(t), schedule.sigma(t)
    # Less than γ where a schedule has no time of so much noise.
    reached = raised_sigma / _positive(raised_alpha) / _positive(ratio) - 1
    gamma = jnp.where(touched, jnp.clip(reached, 0, gamma), 0)
    scale = jnp.where(touched, raised_alpha / alpha, 1)
    std = churn.noise * scale * rows.sigma * jnp.sqrt(gamma * (2 + gamma))
    return rows._replace(t=t, alpha=raised_alpha, sigma=raised_sigma), (scale, std)


def _add_noise(z, row, kick, key):
    if kick is None:
        return z
    scale, std = kick
    return scale * z + std * _normal(key, row.draw, z.shape, z.dtype)


class _Row(NamedTuple):
    """One step, from (t, alpha, sigma) to (alpha_next, sigma_next); scalars inside the scan."""

    draw: jax.Array
    t: jax.Array
    alpha: jax.Array
    sigma: jax.Array
    alpha_next: jax.Array
    sigma_next: jax.Array
    fresh: jax.Array  # 1 − SNR_t/SNR_s: the part of the noise of t that s has not seen


def _rows(schedule, steps):
    steps = jnp.asarray(steps, float)
    if steps.ndim != 1 or steps.size < 2:
        raise ValueError(f"steps must be times [n + 1] with n >= 1, not of shape {steps.shape}")
    alpha, sigma, log_snr = schedule.alpha(steps), schedule.sigma(steps), schedule.log_snr(steps)
    # t = 0 is the data: a sampler that ends there leaves no noise, though σ(0) > 0 in VE and EDM.
    clean = steps[-1] == 0
    return _Row(
        draw=jnp.arange(1, steps.size),
        t=steps[:-1],
        alpha=alpha[:-1],
        sigma=sigma[:-1],
        alpha_next=alpha[1:].at[-1].set(jnp.where(clean, 1, alpha[-1])),
        sigma_next=sigma[1:].at[-1].set(jnp.where(clean, 0, sigma[-1])),
        # From log-SNRs, as 1 − (α_t σ_s / α_s σ_t)² loses every digit when steps are small.
        fresh=-jnp.expm1(log_snr[:-1] - log_snr[1:]),
    )


def _start(key, shape, start, rows):
    """The first state in at least float32, and the dtype that the caller sees."""
    if start is None:
        start = rows.sigma[0] * _normal(key, 0, tuple(shape), rows.sigma.dtype)
    elif start.shape != tuple(shape):
        raise ValueError(f"start has shape {start.shape}, but shape is {tuple(shape)}: make equal")
    return start.astype(jnp.promote_types(start.dtype, jnp.float32)), start.dtype


def _times(row, z):
    return jnp.full(z.shape[:1], row.t)


def _split(prediction, z, row, target, clip):
    """(x̂, ε̂) with z = α x̂ + σ ε̂; where σ = 0, z is the data and holds no noise."""
    if prediction.shape != z.shape:
        raise ValueError(f"predict gave shape {prediction.shape} for z of shape {z.shape}")
    data = target.to_data(prediction.astype(z.dtype), z, row.alpha, row.sigma)
    data = jnp.where(row.sigma > 0, data, z / _positive(row.alpha))
    if clip is not None:
        data = clip(data) if callable(clip) else jnp.clip(data, *clip)
    noise = jnp.where(row.sigma > 0, (z - row.alpha * data) / _positive(row.sigma), 0)
    return data, noise


def _positive(x):
    return jnp.where(x > 0, x, 1)


def _normal(key, index, shape, dtype):
    """N(0, I) of draw `index`; with one key per example, example i's from key i alone."""
    if key is None:
        raise ValueError("this sampler draws noise: give it a key")
    ndim = 0 if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else 1
    if key.ndim == ndim:
        return jax.random.normal(jax.random.fold_in(key, index), shape, dtype)
    if key.shape[0] != shape[0]:
        raise ValueError(f"{key.shape[0]} keys for shape {shape}: give one key, or one per example")
    keys = jax.vmap(jax.random.fold_in, (0, None))(key, index)
    return jax.vmap(lambda k: jax.random.normal(k, shape[1:], dtype))(keys)


def _scan(step, start, rows, dtype, trajectory):
    def body(z, row):
        z = step(z, row)
        return z, z.astype(dtype) if trajectory else None

    last, path = jax.lax.scan(body, start, rows)
    if not trajectory:
        return last.astype(dtype)
    return last.astype(dtype), jnp.concatenate([start[None].astype(dtype), path])
