"""The continuous bound: its closed form on Gaussian data, its discrete limit, its free schedule."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import learned_schedule, predictions, schedules
from genjax.losses import vdm

STD, N = 0.7, 8000
SCHEDULE = schedules.LinearLogSNR(8.0, -6.0)


def ideal(z, t):
    """E[ε | z] for x ~ N(0, STD²)."""
    alpha, sigma = SCHEDULE.alpha(t)[:, None], SCHEDULE.sigma(t)[:, None]
    return sigma / (alpha**2 * STD**2 + sigma**2) * z


@jax.jit
def data(key):
    return STD * jax.random.normal(key, (N, 2))


def parts_in_closed_form(diffusion_error):
    """Prior, diffusion and reconstruction of two dimensions, in float64."""
    first, last = np.exp(8.0), np.exp(-6.0)
    variance = 1 / (1 + last)
    prior = 0.5 * ((1 - variance) * STD**2 + variance - 1 - np.log(variance))
    reconstruction = 0.5 * np.log(2 * np.pi * np.e / first)
    return 2 * prior, 2 * diffusion_error, 2 * reconstruction


def share(snr):
    """E[(ε − E[ε|z])²] = SNR·Var(x|z)."""
    return STD**2 * snr / (1 + STD**2 * snr)


@pytest.mark.heavy
@pytest.mark.parametrize("steps", [None, 10])
def test_each_part_is_the_closed_form_for_a_gaussian(steps):
    parts = jax.jit(
        lambda x: vdm.diffusion_elbo(
            ideal, x, jax.random.key(1), schedule=SCHEDULE, target=predictions.noise,
            decoder=vdm.gaussian_decoder, steps=steps,
        )
    )(data(jax.random.key(0)))  # fmt: skip
    if steps is None:
        error = 0.5 * np.log((1 + STD**2 * np.exp(8.0)) / (1 + STD**2 * np.exp(-6.0)))
    else:
        snr = np.exp(8.0 - 14.0 * np.arange(1, steps + 1) / steps)
        error = 0.5 * (np.expm1(14.0 / steps) * share(snr)).sum()
    for part, exact in zip(parts, parts_in_closed_form(error), strict=True):
        part = np.float64(part)
        assert abs(part.mean() - exact) < 5 * part.std() / np.sqrt(N) + 1e-6


def test_bound_is_the_entropy_except_at_the_two_ends():
    # The three closed forms add up to H(x) when SNR goes from ∞ to 0; here from e^8 to e^-6.
    error = 0.5 * np.log((1 + STD**2 * np.exp(8.0)) / (1 + STD**2 * np.exp(-6.0)))
    entropy = np.log(2 * np.pi * np.e * STD**2)
    assert sum(parts_in_closed_form(error)) - entropy == pytest.approx(0, abs=2e-3)


@pytest.mark.heavy
def test_continuous_loss_is_the_limit_of_the_discrete_one():
    x, key = data(jax.random.key(0)), jax.random.key(1)

    def diffusion(steps):
        parts = vdm.diffusion_elbo(
            ideal, x, key, schedule=SCHEDULE, target=predictions.noise,
            decoder=vdm.gaussian_decoder, steps=steps,
        )  # fmt: skip
        return parts.diffusion.mean()

    limit = jax.jit(lambda: diffusion(None))()
    gaps = [float(jax.jit(lambda n=n: diffusion(n))() - limit) for n in (20, 80, 320)]
    # First order in 1/T, with one set of random numbers for all.
    assert gaps[0] / gaps[1] == pytest.approx(4, rel=0.35)
    assert gaps[1] / gaps[2] == pytest.approx(4, rel=0.35)


@pytest.mark.heavy
def test_categorical_decoder_is_a_softmax_over_the_values():
    values = np.linspace(-1, 1, 8)
    rng = np.random.default_rng(0)
    x = rng.choice(values, (3, 5))
    for log_snr in (-4.0, 3.0, 13.3, 60.0):
        scaled = x + np.exp(-0.5 * log_snr) * rng.standard_normal((3, 5))
        logits = -0.5 * np.exp(log_snr) * (scaled[..., None] - values) ** 2
        shifted = logits - logits.max(-1, keepdims=True)
        log_mass = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
        exact = -log_mass[
            np.arange(3)[:, None], np.arange(5), np.abs(x[..., None] - values).argmin(-1)
        ]
        nll = vdm.categorical_decoder(jnp.asarray(values, jnp.float32))
        if log_snr < 20:
            computed = nll(jnp.float32(x), jnp.float32(scaled), jnp.float32(log_snr))
            np.testing.assert_allclose(computed, exact, rtol=1e-3, atol=1e-3)
        else:
            assert np.isfinite(nll(jnp.float32(x), jnp.float32(scaled), jnp.float32(log_snr))).all()


def network(z, t):
    return jnp.tanh(2 * z)


def test_every_prediction_gives_the_same_bound():
    targets = (predictions.noise, predictions.velocity, predictions.data, predictions.edm)

    def converted(target):
        def predict(z, t):
            alpha, sigma = SCHEDULE.alpha(t), SCHEDULE.sigma(t)
            return predictions.convert(
                network(z, t), z, alpha, sigma, source=predictions.noise, target=target
            )

        return predict

    @jax.jit
    def diffusion_of_each(x):
        arguments = {"schedule": SCHEDULE, "decoder": vdm.gaussian_decoder}
        return [
            vdm.diffusion_elbo(converted(v), x, jax.random.key(1), target=v, **arguments).diffusion
            for v in targets
        ]

    first, *others = diffusion_of_each(data(jax.random.key(0))[:64])
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.heavy
def test_learned_schedule_changes_the_variance_but_not_the_bound_and_its_ends_do():
    schedule = learned_schedule.learned(jax.random.key(5), features=16)
    x = data(jax.random.key(0))

    def loss(schedule, key):
        def ideal(z, t):
            alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
            return sigma / (alpha**2 * STD**2 + sigma**2) * z

        parts = vdm.diffusion_elbo(
            ideal, x, key, schedule=schedule, target=predictions.noise,
            decoder=vdm.gaussian_decoder, times=lambda key, n: (jnp.arange(n) + 0.5) / n,
        )  # fmt: skip
        return sum(parts).mean(), (sum(parts) ** 2).mean()

    # Over the noise of 16 keys and times spread evenly.
    keys = jax.random.split(jax.random.key(2), 16)
    gradient, of_square = jax.jit(
        lambda s: tuple(
            jax.grad(lambda s, i=i: jax.vmap(lambda k: loss(s, k)[i])(keys).mean())(s)
            for i in (0, 1)
        )
    )(schedule)
    inside = ["slope", "weights", "biases", "mixture"]

    def size(tree):
        return max(float(jnp.abs(getattr(tree, name)).max()) for name in inside)

    assert size(gradient) < 0.05 * size(of_square)
    # dL/dλ_0 of two dimensions, from the closed form: ½·share − ½ each.
    snr = math.exp(13.3)
    assert float(gradient.ends[0]) == pytest.approx(share(snr) - 1, abs=0.02)


@pytest.mark.heavy
def test_invalid_arguments_raise_with_one_line():
    x = jnp.zeros((4, 2))
    arguments = {"schedule": SCHEDULE, "target": predictions.noise, "decoder": vdm.gaussian_decoder}
    with pytest.raises(ValueError, match=r"\(4, 2\), got \(4, 1\)"):
        vdm.diffusion_elbo(lambda z, t: z[:, :1], x, jax.random.key(0), **arguments)
    with pytest.raises(ValueError, match=r"\(3,\) for x \(4, 2\)"):
        vdm.diffusion_elbo(ideal, x, jax.random.key(0), times=lambda k, n: jnp.ones(3), **arguments)
