"""Guidance: functions that turn one or two `predict` functions into a guided one."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from genjax.diffusion.protocols import Predict, Prediction, PredictWithVariance, Schedule
from genjax.keys import draw
from genjax.numerics import check_has, expand, is_traced, sum_per_example, widen


def classifier_free(
    conditional: PredictWithVariance,
    unconditional: PredictWithVariance,
    scale: ArrayLike,
    *,
    interval: tuple[ArrayLike, ArrayLike] | None = None,
    rescale: float | Array = 0.0,
) -> Callable[[Array, Array], Any]:
    r"""Classifier-free guidance.

    $$
    F = F_u + \mathrm{scale} \cdot (F_c - F_u)
    $$

    scale = 1 + w of the paper: 0 is unconditional, 1 conditional. F may be any prediction (noise,
    data, velocity, …): all are affine in one another at a given z and t. `rescale` acts against
    over-exposure, with standard deviations over the elements of one example:

    $$
    F \mapsto \phi F\, \frac{\operatorname{std}(F_c)}{\operatorname{std}(F)} + (1 - \phi) F
    $$

    Args:
      conditional: (z [B, ...], t [B]) -> array like z, or the pair (that, learned variance), of
        which the variance is passed on.
      unconditional: likewise; its variance is not used.
      scale: a scalar, or one per example [B].
      interval: (low, high), the times low < t <= high at which to guide; elsewhere F_c alone, and
        where no example is inside, F_u is not computed. Noise levels σ are the times
        `schedule.time(-2 * log(σ))`. None for all times.
      rescale: φ, in [0, 1].

    Returns:
      predict(z, t), like `conditional`.

    Raises:
      ValueError: when called, where the two predictions differ in shape.

    References:
      Ho & Salimans, "Classifier-Free Diffusion Guidance" (2022), arXiv:2207.12598, eq. 6.
      Kynkäänniemi et al., "Applying Guidance in a Limited Interval Improves Sample and Distribution
      Quality in Diffusion Models" (2024), arXiv:2404.07724.
      Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed" (2024),
      arXiv:2305.08891, eqs. 15 and 16.
    """

    def predict(z: Array, t: Array) -> Any:
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
        guided = negative + expand(scale, positive) * (positive - negative)
        if is_traced(rescale) or rescale:
            guided = guided * (1 + rescale * (_std(positive) / _nonzero(_std(guided)) - 1))
        if inside is not None:
            guided = jnp.where(expand(inside, positive), guided, positive)
        guided = guided.astype(positive.dtype)
        return (guided, output[1]) if isinstance(output, tuple) else guided

    return predict


def drop_labels(label: Array, key: Array, *, classes: int, probability: float = 0.1) -> Array:
    """Replaces some labels by the number that means "no class", for classifier-free guidance.

    A network that is trained so predicts with and without a class.

    Args:
      label: class numbers, [B].
      key: one key, or one per example [B].
      classes: number of classes, which is also the label that means none.
      probability: of a replacement.

    Returns:
      Like `label`.

    References:
      Ho & Salimans, "Classifier-Free Diffusion Guidance" (2022), arXiv:2207.12598, algorithm 1.
    """
    dropped = draw(lambda k, shape: jax.random.bernoulli(k, probability, shape), key, label.shape)
    return jnp.where(dropped, classes, label)


def autoguidance(
    predict: PredictWithVariance,
    weak: PredictWithVariance,
    scale: ArrayLike,
    *,
    interval: tuple[ArrayLike, ArrayLike] | None = None,
) -> Callable[[Array, Array], Any]:
    r"""Guidance by a worse version of the same model.

    $$
    F = F_\mathrm{weak} + \mathrm{scale} \cdot (F - F_\mathrm{weak})
    $$

    Args:
      predict: (z [B, ...], t [B]) -> array like z, or the pair (that, learned variance), of which
        the variance is passed on.
      weak: likewise; a smaller or less trained model of the same condition.
      scale: a scalar, or one per example [B]; 1 is no guidance.
      interval: (low, high), the times low < t <= high at which to guide; None for all times.

    Returns:
      predict(z, t), like `predict`.

    References:
      Karras et al., "Guiding a Diffusion Model with a Bad Version of Itself" (2024),
      arXiv:2406.02507.
    """
    return classifier_free(predict, weak, scale, interval=interval)


def classifier(
    predict: Predict,
    log_prob: Callable[[Array, Array], Array],
    scale: ArrayLike,
    *,
    schedule: Schedule,
    target: Prediction,
) -> Predict:
    r"""Classifier guidance, for any prediction.

    $$
    \hat\epsilon \mapsto \hat\epsilon - \mathrm{scale} \cdot \sigma \nabla_z \log p(y \mid z),
    \qquad
    \hat x \mapsto \hat x + \mathrm{scale} \cdot \frac{\sigma^2}{\alpha} \nabla_z \log p(y \mid z)
    $$

    At scale 1 it samples p(x) p(y|x). Where α = 0, z does not depend on y, and the gradient is
    taken as 0.

    Args:
      predict: (z [B, ...], t [B]) -> array like z, the prediction that `target` names.
      log_prob: (z [B, ...], t [B]) -> log p(y|z) in nats, [B]; example i's from z_i alone.
      scale: a scalar, or one per example [B].
      schedule: has alpha(t) and sigma(t), such as one of `schedules`.
      target: what `predict` predicts, such as one of `predictions`.

    Returns:
      predict(z, t), like `predict`.

    Raises:
      TypeError: where `schedule` or `target` is a class or a name in place of an object.

    References:
      Dhariwal & Nichol, "Diffusion Models Beat GANs on Image Synthesis" (2021), arXiv:2105.05233,
      algorithm 2.
    """

    check_has("alpha sigma", "schedules.VP()", schedule=schedule)
    check_has("of to_data to_noise", "predictions.noise", target=target)

    def guided(z: Array, t: Array) -> Array:
        prediction = predict(z, t)
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        gradient = jax.grad(lambda z: jnp.sum(log_prob(z, t)))(z)
        data = target.to_data(prediction, z, alpha, sigma)
        noise = target.to_noise(prediction, z, alpha, sigma)
        pull = jnp.where(alpha > 0, scale, 0)
        data = data + expand(pull * sigma**2 / _nonzero(alpha), z) * gradient
        noise = noise - expand(pull * sigma, z) * gradient
        return target.of(data, noise, alpha, sigma).astype(prediction.dtype)

    return guided


def projected(
    conditional: Predict,
    unconditional: Predict,
    scale: ArrayLike,
    *,
    schedule: Schedule,
    target: Prediction,
    parallel: float | Array = 0.0,
    norm: ArrayLike | None = None,
) -> Predict:
    r"""Adaptive projected guidance (APG), without momentum: strong guidance without saturation.

    Of the difference of the estimates of the data, the part along the conditional one, which
    saturates colours, counts `parallel` times as much:

    $$
    \hat x = \hat x_c + (\mathrm{scale} - 1) \bigl(d - (1 - \mathrm{parallel})\, d_\parallel\bigr),
    \qquad d = (\hat x_c - \hat x_u) \min\Bigl(1,
      \frac{\mathrm{norm}}{\lVert \hat x_c - \hat x_u \rVert}\Bigr), \qquad
    d_\parallel = \frac{\langle d, \hat x_c \rangle}{\lVert \hat x_c \rVert^2}\, \hat x_c
    $$

    over the elements of one example. With momentum: `guided_samplers.adaptive_projected`. At
    parallel = 1 and without a norm this is `classifier_free`. Where α = 0, the prediction is the
    conditional one.

    Args:
      conditional: (z [B, ...], t [B]) -> array like z, the prediction that `target` names.
      unconditional: likewise.
      scale: a scalar, or one per example [B]; 1 is no guidance.
      schedule: has alpha(t) and sigma(t), such as one of `schedules`.
      target: what the two predict, such as one of `predictions`.
      parallel: the paper's η, in [0, 1].
      norm: the paper's r, the largest norm of the difference, a scalar or one per example [B];
        None for no limit.

    Returns:
      predict(z, t), like `conditional`.

    Raises:
      TypeError: where `schedule` or `target` is a class or a name in place of an object.

    References:
      Sadat et al., "Eliminating Oversaturation and Artifacts of High Guidance Scales in Diffusion
      Models" (2024), arXiv:2410.02416, algorithm 1.
    """
    check_has("alpha sigma", "schedules.VP()", schedule=schedule)
    check_has("of to_data to_noise", "predictions.noise", target=target)

    def guided(z: Array, t: Array) -> Array:
        prediction, other = conditional(z, t), unconditional(z, t)
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        data = target.to_data(prediction, z, alpha, sigma)
        difference = data - target.to_data(other, z, alpha, sigma)
        pull = expand(jnp.asarray(scale) - 1, z) * project(difference, data, parallel, norm)
        noise = target.to_noise(prediction, z, alpha, sigma)
        noise = noise - expand(alpha / _nonzero(sigma), z) * pull
        moved = target.of(data + pull, noise, alpha, sigma)
        return jnp.where(expand(alpha > 0, z), moved, prediction).astype(prediction.dtype)

    return guided


def project(
    difference: Array, data: Array, parallel: float | Array = 0.0, norm: ArrayLike | None = None
) -> Array:
    r"""The guidance of APG: a difference, shortened, with less of its part along the data.

    $$
    d \mapsto d - (1 - \mathrm{parallel}) \frac{\langle d, x \rangle}{\lVert x \rVert^2}\, x
    $$

    Args:
      difference: d, [B, ...].
      data: x, [B, ...].
      parallel: the share of the part along x that is kept.
      norm: the largest ‖d‖ of an example, a scalar or one per example [B]; None for no limit.

    Returns:
      Like `difference`.

    References:
      Sadat et al., "Eliminating Oversaturation and Artifacts of High Guidance Scales in Diffusion
      Models" (2024), arXiv:2410.02416, algorithm 1.
    """
    d, x = widen(difference), widen(data)
    if norm is not None:
        size = jnp.sqrt(sum_per_example(d**2))
        d = d * expand(jnp.minimum(1, norm / _nonzero(size)), d)
    along = sum_per_example(d * x) / _nonzero(sum_per_example(x**2))
    return (d - (1 - parallel) * expand(along, x) * x).astype(difference.dtype)


def _prediction(output: Any) -> Array:
    return output[0] if isinstance(output, tuple) else output


def _std(x: Array) -> Array:
    return jnp.std(x.astype(jnp.float32), axis=tuple(range(1, x.ndim)), keepdims=True)


def _nonzero(x: Array) -> Array:
    return jnp.where(x == 0, 1, x)
