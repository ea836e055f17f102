"""Weightings against the papers' formulas, and what each is on another prediction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import discrete_schedules, predictions, schedules
from genjax.losses import weightings

LOG_SNR = np.linspace(-9, 9, 37)
SNR = np.exp(LOG_SNR)
SIGMOID = 1 / (1 + np.exp(2 + LOG_SNR))

FORMULAS = {
    "simple": (weightings.simple, np.ones(37)),
    "min-SNR": (weightings.min_snr(5.0), np.minimum(SNR, 5) / SNR),
    "P2": (weightings.p2(0.5, 2.0), (2 + SNR) ** -0.5),
    "EDM": (weightings.edm(0.5), 1 + 4 / SNR),
    "sigmoid": (weightings.sigmoid(-2.0), SIGMOID),
    "velocity of data": (
        weightings.velocity_of_data(), np.maximum(1 / (1 + np.exp(LOG_SNR / 2)), 0.05) ** -2
    ),
    # λ falls by 18.3 in all.
    "VLB": (weightings.unweighted_elbo(schedules.LinearLogSNR()), np.full(37, 9.15)),
    "likelihood": (
        weightings.likelihood(schedules.LinearLogSNR()), 9.15 / (1 + SNR)
    ),
    "sigmoid ELBO": (
        weightings.weighted_elbo(weightings.sigmoid(-2.0), schedules.LinearLogSNR()),
        9.15 * SIGMOID,
    ),
}  # fmt: skip


@pytest.mark.heavy
@pytest.mark.parametrize("name", FORMULAS)
def test_weight_is_the_formula_of_the_paper_and_finite_at_the_extremes(name):
    weight, expected = FORMULAS[name]
    np.testing.assert_allclose(weight(jnp.asarray(LOG_SNR)), expected, rtol=5e-6)
    far = jnp.array([-80.0, 80.0])
    assert np.isfinite(weight(far)).all()
    assert np.isfinite(jax.vmap(jax.grad(weight))(far)).all()


def test_min_snr_on_data_and_on_velocity_is_that_of_hang_et_al():
    weight = weightings.min_snr(5.0)
    for target, expected in (
        (predictions.data, np.minimum(SNR, 5)),
        (predictions.velocity, np.minimum(SNR, 5) / (SNR + 1)),
    ):
        converted = weightings.convert(weight, source=predictions.noise, target=target)
        np.testing.assert_allclose(converted(jnp.asarray(LOG_SNR)), expected, rtol=1e-5)


def test_the_weight_on_data_above_its_floor_is_that_of_the_velocity():
    schedule = schedules.RectifiedFlow()
    plain = weightings.convert(
        weightings.simple, source=predictions.flow, target=predictions.data, schedule=schedule
    )  # of the noise's weight 1 on the flow's error
    t = jnp.array([0.06, 0.3, 0.9])
    found = weightings.velocity_of_data()(schedule.log_snr(t))
    np.testing.assert_allclose(found, plain(schedule.log_snr(t)), rtol=1e-5)


def test_min_snr_on_velocity_is_zero_not_nan_at_zero_terminal_snr():
    schedule = discrete_schedules.zero_terminal_snr(discrete_schedules.DiscreteLinear())
    for process in (None, schedule):
        weight = weightings.convert(
            weightings.min_snr(), source=predictions.noise, target=predictions.velocity,
            schedule=process,
        )  # fmt: skip
        assert float(weight(schedule.log_snr(1.0))) == 0


def test_edm_is_one_on_its_own_prediction_whatever_the_schedule():
    for schedule in (None, schedules.EDM(), schedules.RectifiedFlow()):
        converted = weightings.convert(
            weightings.edm(), source=predictions.noise, target=predictions.edm, schedule=schedule
        )
        np.testing.assert_allclose(converted(jnp.asarray(LOG_SNR)), 1, rtol=1e-4)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "schedule", [schedules.VP(), schedules.SubVP(), schedules.VE(), schedules.RectifiedFlow()]
)
def test_likelihood_on_the_score_is_the_vlb_on_the_noise(schedule):
    converted = weightings.convert(
        weightings.likelihood(schedule), source=predictions.score, target=predictions.noise,
        schedule=schedule,
    )  # fmt: skip
    log_snr = schedule.log_snr(jnp.linspace(0.01, 0.99, 20))
    np.testing.assert_allclose(
        converted(log_snr), weightings.unweighted_elbo(schedule)(log_snr), rtol=1e-5
    )


def test_likelihood_is_half_the_squared_diffusion_of_song_et_al():
    # VP's SDE has g² = β(t); VE's σ² grows as d(σ²)/dt = 2·σ²·log(σ_max/σ_min).
    t = jnp.linspace(0.01, 1, 20)
    schedule = schedules.VP()
    beta = 0.1 + np.asarray(t) * 19.9
    weight = weightings.likelihood(schedule)(schedule.log_snr(t))
    np.testing.assert_allclose(weight, beta / 2, rtol=1e-5)
    schedule = schedules.VE()
    weight = weightings.likelihood(schedule)(schedule.log_snr(t))
    np.testing.assert_allclose(weight, schedule.sigma(t) ** 2 * np.log(5000), rtol=1e-5)


@pytest.mark.parametrize("bounds", [(13.0, -5.0), (8.0, -8.0)])
@pytest.mark.parametrize("kind", [schedules.LinearLogSNR, schedules.Cosine])
def test_vlb_of_gaussian_data_is_the_same_integral_for_every_schedule(kind, bounds):
    # ½·∫ SNR·Var(x|z) dλ = ½·log((1 + s²·SNR_0)/(1 + s²·SNR_1)), for x ~ N(0, s²).
    schedule, variance = kind(*bounds), 0.49
    t = (jnp.arange(20_000) + 0.5) / 20_000
    log_snr = schedule.log_snr(t)
    error = jnp.exp(log_snr) / (1 / variance + jnp.exp(log_snr))
    integral = jnp.mean(weightings.unweighted_elbo(schedule)(log_snr) * error)
    exact = 0.5 * np.log((1 + variance * np.exp(bounds[0])) / (1 + variance * np.exp(bounds[1])))
    # The midpoint rule at the cosine's steep ends.
    np.testing.assert_allclose(integral, exact, rtol=1e-3)


@pytest.mark.parametrize(
    "schedule",
    [None, schedules.RectifiedFlow(), schedules.VP(), schedules.Cosine(np.inf, -np.inf)],
    ids=["circle", "flow", "vp", "cosine"],
)
def test_a_converted_weight_has_its_limit_at_both_ends(schedule):
    noise, data, score = predictions.noise, predictions.data, predictions.score
    # At λ = ∞ and −∞: min(SNR, 5) on data, and with σ² and 1 in place of it on and from the score.
    for weight, source, target, expected in (
        (weightings.min_snr(5.0), noise, data, (5, 0)),
        (weightings.min_snr(5.0), noise, score, (0, 1)),
        (weightings.min_snr(5.0), score, noise, (5, 1)),
        (weightings.edm(0.5), noise, data, (np.inf, 4)),
        (weightings.simple, noise, data, (np.inf, 0)),
    ):
        converted = weightings.convert(weight, source=source, target=target, schedule=schedule)
        found = converted(jnp.array([np.inf, -np.inf]))
        # λ = 40 stands for ∞, and float32's e^40 has an error of 40 units in the last place.
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


def test_elbo_weights_have_their_limit_at_clean_data():
    # −½ dλ/dt e^−λ at t = 0: t of a rectified flow, β(0)/2 of VP.
    infinite = jnp.array([np.inf])
    for schedule, expected in ((schedules.RectifiedFlow(), 0), (schedules.VP(), 0.05)):
        for weight in (
            weightings.likelihood(schedule),
            weightings.weighted_elbo(weightings.sigmoid(0.0), schedule),
        ):
            np.testing.assert_allclose(weight(infinite), expected, rtol=1e-5, atol=1e-8)
