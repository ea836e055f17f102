"""The predictor-corrector sampler: Langevin steps at each noise level before it is left."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


def predictor_corrector(
    predict,
    key,
    shape,
    *,
    schedule,
    target,
    steps,
    corrections=1,
    snr=0.16,
    eta=1.0,
    start=None,
    clip=None,
    trajectory=False,
):
    """Annealed Langevin correctors between the steps of a DDIM (η = 1: ancestral) predictor.

    At every t of the grid, `corrections` times: z ← z + e g + √(2e) ξ, ξ ~ N(0, I), with the score
    g = −ε̂/σ_t and the step e = 2 (α_t/α_s)² (snr ‖ξ‖/‖g‖)², the norms over one example; then
    z_s = α_s x̂ + √(σ_s² − c²) ε̂ + c ε with c = η σ_s √(1 − SNR_t/SNR_s).
    Song et al. 2021, "Score-Based Generative Modeling through SDEs", algorithms 1, 4 and 5; their
    norms are means over the batch.

    Args:
      predict: (z [B, ...], t [B]) -> array like z, what `target` says the network predicts.
      key: one PRNG key, or one per example [B]: then example i depends on key i alone.
      shape: of the result, (B, ...).
      schedule: has alpha(t), sigma(t) and log_snr(t), such as one of `schedules`.
      target: has to_data(prediction, z, alpha, sigma), such as one of `predictions`.
      steps: times [n + 1], strictly decreasing from 1 (noise) to 0 (data).
      corrections: Langevin steps at each time; n (corrections + 1) evaluations in all.
      snr: the ratio of step to noise, r in the paper; without unit.
      eta: a number in [0, 1], the stochasticity of the predictor.
      start: z at steps[0], of `shape`; drawn as σ ε, ε ~ N(0, I), if None. A start of less than 32
        bits is the dtype that `predict` sees and that is returned; sums run in float32.
      clip: (low, high), or a function of x̂, applied to every x̂, such as one of `thresholding`.
      trajectory: also return the state after each predictor.

    Returns:
      z at steps[-1], of `shape`: if that is 0 the last x̂, with no noise left whatever σ(0) is. With
      `trajectory`, also all n + 1 states [n + 1, B, ...].
    """
    items = _items(schedule, steps, corrections)
    if start is None:
        start = items.sigma[0] * _normal(key, 0, tuple(shape), items.sigma.dtype)
    elif start.shape != tuple(shape):
        raise ValueError(f"start has shape {start.shape}, but shape is {tuple(shape)}: make equal")
    dtype = start.dtype
    start = start.astype(jnp.promote_types(dtype, jnp.float32))

    def body(z, item):
        prediction = predict(z.astype(dtype), jnp.full(z.shape[:1], item.t))
        if prediction.shape != z.shape:
            raise ValueError(f"predict gave shape {prediction.shape} for z of shape {z.shape}")
        data = target.to_data(prediction.astype(z.dtype), z, item.alpha, item.sigma)
        if clip is not None:
            data = clip(data) if callable(clip) else jnp.clip(data, *clip)
        noise = (z - item.alpha * data) / item.sigma
        drawn = _normal(key, item.draw, z.shape, z.dtype)

        kept = item.sigma_next * jnp.sqrt(1 - eta**2 * item.fresh)
        std = item.sigma_next * eta * jnp.sqrt(item.fresh)
        predicted = item.alpha_next * data + kept * noise + std * drawn

        score = -noise / item.sigma
        size = 2 * (item.alpha / item.alpha_next * snr) ** 2 * _ratio(drawn, score)
        corrected = z + size * score + jnp.sqrt(2 * size) * drawn

        z = jnp.where(item.corrects, corrected, predicted)
        return z, z.astype(dtype) if trajectory else None

    last, path = jax.lax.scan(body, start, items)
    last = last.astype(dtype)
    if not trajectory:
        return last
    return last, jnp.concatenate([start[None].astype(dtype), path[corrections :: corrections + 1]])


class _Item(NamedTuple):
    """One evaluation of the network: a correction, or the step to (alpha_next, sigma_next)."""

    draw: jax.Array
    corrects: jax.Array
    t: jax.Array
    alpha: jax.Array
    sigma: jax.Array
    alpha_next: jax.Array
    sigma_next: jax.Array
    fresh: jax.Array  # 1 − SNR_t/SNR_s: the part of the noise of t that s has not seen


def _items(schedule, steps, corrections):
    steps = jnp.asarray(steps, float)
    if steps.ndim != 1 or steps.size < 2:
        raise ValueError(f"steps must be times [n + 1] with n >= 1, not of shape {steps.shape}")
    alpha, sigma, log_snr = schedule.alpha(steps), schedule.sigma(steps), schedule.log_snr(steps)
    # t = 0 is the data: a sampler that ends there leaves no noise, though σ(0) > 0 in VE and EDM.
    clean = steps[-1] == 0
    n, repeats = steps.size - 1, corrections + 1
    index = jnp.arange(n * repeats)
    step = index // repeats
    return _Item(
        draw=index + 1,
        corrects=index % repeats < corrections,
        t=steps[step],
        alpha=alpha[step],
        sigma=sigma[step],
        alpha_next=jnp.where(clean & (step == n - 1), 1, alpha[step + 1]),
        sigma_next=jnp.where(clean & (step == n - 1), 0, sigma[step + 1]),
        # From log-SNRs, as 1 − (α_t σ_s / α_s σ_t)² loses every digit when steps are small.
        fresh=-jnp.expm1(log_snr[step] - log_snr[step + 1]),
    )


def _ratio(a, b):
    """‖a‖²/‖b‖² of each example, [B, 1, ...]; 0 where b = 0: no score, no step."""
    axes = tuple(range(1, a.ndim))
    top, bottom = (jnp.sum(x**2, axes, keepdims=True) for x in (a, b))
    return jnp.where(bottom > 0, top / jnp.where(bottom > 0, bottom, 1), 0)


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
