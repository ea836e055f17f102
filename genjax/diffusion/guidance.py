"""Guidance: functions that turn one or two `predict` functions into a guided one."""

import jax
import jax.numpy as jnp


def classifier_free(conditional, unconditional, scale, *, interval=None, rescale=0.0):
    """F = F_u + scale (F_c − F_u): the `predict` of classifier-free guidance.

    scale 0 is unconditional, 1 conditional; Ho & Salimans 2022, eq. 6, with scale = 1 + w. F may be
    any prediction (noise, data, velocity, …): all are affine in one another at a given z and t.

    Args:
      conditional: (z [B, ...], t [B]) -> array like z, or the pair (that, learned variance), of
        which the variance is passed on.
      unconditional: likewise.
      scale: a number, or one per example [B].
      interval: (low, high), the times low < t <= high at which to guide; elsewhere F_c alone, and
        where no example is inside, F_u is not computed. Kynkäänniemi et al. 2024, with their noise
        levels as times, `schedule.time(-2 log σ)`.
      rescale: φ in [0, 1]: F ↦ φ F std(F_c)/std(F) + (1 − φ) F, std over an example's elements,
        against over-exposure. Lin et al. 2024, eqs. 15 and 16.

    Returns:
      predict(z, t).
    """

    def predict(z, t):
        output = conditional(z, t)
        positive = _prediction(output)
        inside = None if interval is None else (t > interval[0]) & (t <= interval[1])
        if inside is None:
            negative = _prediction(unconditional(z, t))
        else:
            negative = jax.lax.cond(
                jnp.any(inside), lambda: _prediction(unconditional(z, t)), lambda: positive
            )
        if negative.shape != positive.shape:
            raise ValueError(
                f"the two predictions differ in shape: {positive.shape} and {negative.shape}"
            )
        guided = negative + _expand(scale, positive) * (positive - negative)
        if rescale:
            guided = guided * (1 + rescale * (_std(positive) / _nonzero(_std(guided)) - 1))
        if inside is not None:
            guided = jnp.where(_expand(inside, positive), guided, positive)
        guided = guided.astype(positive.dtype)
        return (guided, output[1]) if isinstance(output, tuple) else guided

    return predict


def autoguidance(predict, weak, scale, *, interval=None):
    """F = F_w + scale (F − F_w): guidance by a worse version `weak` of the same model.

    Karras et al. 2024, "Guiding a Diffusion Model with a Bad Version of Itself": weak is a smaller
    or less trained model of the same condition; scale 1 is no guidance. Arguments and result as in
    `classifier_free`.
    """
    return classifier_free(predict, weak, scale, interval=interval)


def classifier(predict, log_prob, scale, *, schedule, target):
    """ε̂ ↦ ε̂ − scale σ ∇_z log p(y|z), x̂ ↦ x̂ + scale (σ²/α) ∇_z log p(y|z), for any prediction.

    Dhariwal & Nichol 2021, algorithm 2. At scale 1 it samples p(x) p(y|x). Where α = 0, z knows
    nothing of y, and the gradient is taken as 0.

    Args:
      predict: (z [B, ...], t [B]) -> array like z.
      log_prob: (z [B, ...], t [B]) -> log p(y|z) in nats, [B]; example i's from z_i alone.
      scale: a number, or one per example [B].
      schedule: has alpha(t) and sigma(t), such as one of `schedules`.
      target: what `predict` predicts, such as one of `predictions`.

    Returns:
      predict(z, t).
    """

    def guided(z, t):
        prediction = predict(z, t)
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        gradient = jax.grad(lambda z: jnp.sum(log_prob(z, t)))(z)
        data = target.to_data(prediction, z, alpha, sigma)
        noise = target.to_noise(prediction, z, alpha, sigma)
        pull = jnp.where(alpha > 0, scale, 0)
        data = data + _expand(pull * sigma**2 / _nonzero(alpha), z) * gradient
        noise = noise - _expand(pull * sigma, z) * gradient
        return target.of(data, noise, alpha, sigma).astype(prediction.dtype)

    return guided


def _prediction(output):
    return output[0] if isinstance(output, tuple) else output


def _expand(value, like):
    value = jnp.asarray(value)
    return value.reshape(value.shape + (1,) * (like.ndim - 1)) if value.ndim else value


def _std(x):
    return jnp.std(x.astype(jnp.float32), axis=tuple(range(1, x.ndim)), keepdims=True)


def _nonzero(x):
    return jnp.where(x == 0, 1, x)
