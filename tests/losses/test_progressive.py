"""Progressive distillation of Gaussian data, whose teacher is known in closed form."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import keys
from genjax.diffusion import predictions, samplers, schedules, steps
from genjax.losses.progressive import progressive_distillation, truncated_snr

pytestmark = pytest.mark.heavy

MEAN, STD, N = 0.3, 0.6, 4
COSINE = schedules.Cosine()
KEYS = jax.random.split(jax.random.key(0), 64)
X = MEAN + STD * np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)


def data(z, t):
    """E[x | z]."""
    alpha, sigma = COSINE.alpha(t)[:, None], COSINE.sigma(t)[:, None]
    gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
    return MEAN + gain * (z - alpha * MEAN)


def ideal(target):
    def predict(z, t):
        alpha, sigma = COSINE.alpha(t), COSINE.sigma(t)
        x = data(z, t)
        return target.of(x, (z - alpha[:, None] * x) / sigma[:, None], alpha, sigma)

    return predict


def two_in_one(z, t):
    """The x̃ of two DDIM steps of the ideal teacher, in float64, step by step."""
    z, times = np.asarray(z, np.float64), np.asarray(t, np.float64)

    def scales(t):
        both = COSINE.alpha(jnp.asarray(t)), COSINE.sigma(jnp.asarray(t))
        return (np.asarray(scale, np.float64)[:, None] for scale in both)

    state, now = z, times
    for after in (times - 0.5 / N, times - 1 / N):
        (alpha, sigma), (alpha_s, sigma_s) = scales(now), scales(np.maximum(after, 0))
        x = np.asarray(data(jnp.asarray(state), jnp.asarray(now)), np.float64)
        state, now = alpha_s * x + sigma_s * (state - alpha * x) / sigma, np.maximum(after, 0)
    (alpha, sigma), (alpha_s, sigma_s) = scales(times), scales(now)
    return (state - sigma_s / sigma * z) / (alpha_s - sigma_s / sigma * alpha)


def loss(predict, target=predictions.velocity, **options):
    return progressive_distillation(
        predict, ideal(target), X, KEYS, schedule=COSINE, target=target, steps=N, **options
    )


@pytest.mark.parametrize("target", [predictions.velocity, predictions.data])
def test_the_error_is_that_of_the_data_that_two_steps_imply(target):
    seen = []

    def still(z, t):
        seen.append((z, t))
        return jnp.zeros_like(z)

    found = loss(still, target, weight=jnp.ones_like)
    ((z, t),) = seen
    np.testing.assert_allclose(np.unique(np.round(t * N)), [1, 2, 3, 4])
    eps = keys.normal(keys.split(KEYS, 2)[1], X.shape)
    noisy = COSINE.alpha(t)[:, None] * X + COSINE.sigma(t)[:, None] * eps
    np.testing.assert_allclose(z, noisy, rtol=1e-6, atol=1e-6)
    x = target.to_data(jnp.zeros_like(z), z, COSINE.alpha(t), COSINE.sigma(t))
    np.testing.assert_allclose(found, ((two_in_one(z, t) - x) ** 2).sum(1), rtol=1e-3, atol=1e-5)
    weighted = loss(still, target)
    snr = np.exp(np.asarray(COSINE.log_snr(t), np.float64))
    np.testing.assert_allclose(weighted, np.maximum(snr, 1) * found, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(truncated_snr(jnp.array([-3.0, 0, 2])), [1, 1, np.e**2], rtol=1e-6)


def test_the_best_student_takes_in_one_step_what_its_teacher_takes_in_two():
    def student(z, t):
        return jnp.asarray(two_in_one(z, t), jnp.float32)

    found = progressive_distillation(
        student, ideal(predictions.data), X, KEYS,
        schedule=COSINE, target=predictions.data, steps=N,
    )  # fmt: skip
    assert found.max() < 1e-4
    start = jax.random.normal(jax.random.key(3), X.shape)

    def sampled(predict, n):
        z = start
        for t, s in itertools.pairwise(steps.linear(n).tolist()):
            x = predict(z, jnp.full(len(z), t))
            alpha, sigma, alpha_s, sigma_s = (
                float(f(jnp.float32(u))) for u in (t, s) for f in (COSINE.alpha, COSINE.sigma)
            )
            z = alpha_s * x + sigma_s * (z - alpha * x) / sigma
        return z

    teacher = samplers.ddim(
        ideal(predictions.data), None, X.shape, start=start, schedule=COSINE,
        target=predictions.data, steps=steps.linear(2 * N),
    )  # fmt: skip
    np.testing.assert_allclose(sampled(student, N), teacher, atol=2e-3)
    # One step of what one step of the teacher implies is another place.
    assert np.abs(sampled(data, N) - teacher).max() > 0.01


def test_no_gradient_reaches_the_teacher():
    def of(scale):
        return progressive_distillation(
            lambda z, t: z, lambda z, t: scale * z, X, KEYS,
            schedule=COSINE, target=predictions.velocity, steps=N,
        ).sum()  # fmt: skip

    assert jax.grad(of)(0.5) == 0
