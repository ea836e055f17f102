"""Schedules against the papers' formulas in float64, at both ends of time and in between."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import discrete_schedules, schedules

# float32 rounds at 6e-8; exponents up to 10 and a few operations more make 3e-6.
ROUNDING = 3e-6
TIMES = np.concatenate([[1e-5, 1e-4, 1e-3], np.linspace(0.01, 0.99, 50), [0.999, 0.9999]])
TIMES = TIMES.astype(np.float32).astype(np.float64)


def vp(t, low=0.1, high=20.0):
    integral = t * low + t**2 / 2 * (high - low)
    return np.exp(-integral / 2), np.sqrt(-np.expm1(-integral))


def sub_vp(t):
    alpha, sigma = vp(t)
    return alpha, sigma**2


def karras(t, low=0.002, high=80.0, rho=7):
    return np.ones_like(t), (low ** (1 / rho) + t * (high ** (1 / rho) - low ** (1 / rho))) ** rho


def cosine(t):
    return np.cos(np.pi * t / 2), np.sin(np.pi * t / 2)


def bounded_cosine(t, bound=20.0):
    first, last = np.arctan(np.exp(-bound / 2)), np.arctan(np.exp(bound / 2))
    angle = first + t * (last - first)
    return np.cos(angle), np.sin(angle)


def sigmoid(t, start=-3.0, end=3.0, tau=1.0):
    def s(a):
        return 1 / (1 + np.exp(-a / tau))

    gamma = (s(end) - s(t * (end - start) + start)) / (s(end) - s(start))
    return np.sqrt(gamma), np.sqrt(1 - gamma)


def linear_log_snr(t, high=13.3, low=-5.0):
    snr = np.exp(high + t * (low - high))
    return np.sqrt(snr / (1 + snr)), np.sqrt(1 / (1 + snr))


def shifted_flow(t, factor=3.0):
    # Esser et al. 2024, eq. 23: t' = s·t / (1 + (s − 1)·t).
    moved = factor * t / (1 + (factor - 1) * t)
    return 1 - moved, moved


CONTINUOUS = {
    "rectified flow": (schedules.RectifiedFlow(), lambda t: (1 - t, t)),
    "VP": (schedules.VP(), vp),
    "VP, constant beta": (schedules.VP(3.0, 3.0), lambda t: vp(t, 3.0, 3.0)),
    "sub-VP": (schedules.SubVP(), sub_vp),
    "VE": (schedules.VE(), lambda t: (np.ones_like(t), 0.01 * 5000.0**t)),
    "EDM": (schedules.EDM(), karras),
    "cosine": (schedules.Cosine(math.inf, -math.inf), cosine),
    "bounded cosine": (schedules.Cosine(), bounded_cosine),
    "sigmoid": (schedules.Sigmoid(), sigmoid),
    "steep sigmoid": (schedules.Sigmoid(0.0, 3.0, 0.3), lambda t: sigmoid(t, 0.0, 3.0, 0.3)),
    "linear log SNR": (schedules.LinearLogSNR(), linear_log_snr),
    "shifted": (schedules.Shifted(schedules.RectifiedFlow(), -2 * math.log(3.0)), shifted_flow),
}
DISCRETE = {
    "discrete linear": discrete_schedules.DiscreteLinear(),
    "discrete cosine": discrete_schedules.DiscreteCosine(),
    "zero terminal": discrete_schedules.zero_terminal_snr(discrete_schedules.DiscreteLinear()),
    "four steps": discrete_schedules.Discrete((0.1, 0.2, 0.3, 0.9)),
}
ALL = {**{name: pair[0] for name, pair in CONTINUOUS.items()}, **DISCRETE}


def log_snr_of(pair):
    return 2 * (np.log(pair[0]) - np.log(pair[1]))


@pytest.mark.parametrize("name", CONTINUOUS)
def test_alpha_sigma_and_log_snr_are_the_papers_formulas_at_both_ends_of_time(name):
    schedule, reference = CONTINUOUS[name]
    alpha, sigma = reference(TIMES)
    # π/2·t itself is rounded: at t = .9999 cos(π/2·t) loses four digits in the reference's input,
    # not in the schedule, so a change of t by half its last place is allowed for.
    nudged = reference(TIMES + 6e-8 * TIMES)
    for computed, exact, moved in zip(
        (schedule.alpha(TIMES), schedule.sigma(TIMES)), (alpha, sigma), nudged, strict=True
    ):
        slack = np.abs(moved - exact) + ROUNDING * np.abs(exact)
        # A shift goes through the base's time, whose rounding near 1 is absolute.
        slack += 1.2e-7 if name == "shifted" else 0
        assert computed.dtype == jnp.float32
        assert (np.abs(computed - exact) <= slack).all()
    exact = log_snr_of((alpha, sigma))
    slack = np.abs(log_snr_of(nudged) - exact) + ROUNDING * np.maximum(np.abs(exact), 1)
    assert (np.abs(schedule.log_snr(TIMES) - exact) <= slack).all()


@pytest.mark.parametrize("name", CONTINUOUS)
def test_log_snr_derivative_is_the_float64_difference(name):
    schedule, reference = CONTINUOUS[name]
    width = 1e-4 * TIMES * (1 - TIMES)
    ahead, behind = (log_snr_of(reference(TIMES + s * width)) for s in (1, -1))
    # Differences of float64 over 1e-4 of the distance to the end keep 1e-5 at worst.
    np.testing.assert_allclose(
        schedule.log_snr_derivative(TIMES), (ahead - behind) / (2 * width), rtol=2e-5
    )


@pytest.mark.parametrize("name", ALL)
def test_time_inverts_log_snr(name):
    schedule = ALL[name]
    # λ up to 20 is rounded at 1e-6 and its slope is at least 2 for every schedule.
    np.testing.assert_allclose(schedule.time(schedule.log_snr(TIMES)), TIMES, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_log_snr_decreases_and_agrees_with_alpha_and_sigma(name):
    schedule = ALL[name]
    log_snr = np.asarray(schedule.log_snr(TIMES))
    assert (np.diff(log_snr) < 0).all()
    alpha, sigma = np.float64(schedule.alpha(TIMES)), np.float64(schedule.sigma(TIMES))
    # Again: near t = 1 the last place of the base's time is worth 1e-3 of α.
    rtol = 1e-3 if name == "shifted" else 4e-6
    np.testing.assert_allclose(log_snr, log_snr_of((alpha, sigma)), rtol=rtol, atol=4e-6)


@pytest.mark.heavy
def test_ends_of_time():
    ends = jnp.array([0.0, 1.0])
    for name in ("rectified flow", "cosine", "sigmoid", "zero terminal"):
        np.testing.assert_array_equal(ALL[name].log_snr(ends), [np.inf, -np.inf])
        np.testing.assert_array_equal(ALL[name].time(jnp.array([np.inf, -np.inf])), ends)
    for name in ("VP", "sub-VP", "discrete linear", "discrete cosine"):
        assert ALL[name].sigma(0.0) == 0
        assert ALL[name].time(jnp.inf) == 0
    np.testing.assert_allclose(ALL["EDM"].sigma(ends), [0.002, 80], rtol=2e-6)
    np.testing.assert_allclose(ALL["VE"].sigma(ends), [0.01, 50], rtol=2e-6)


@pytest.mark.parametrize("name", ALL)
def test_any_shape_and_dtype_of_time_under_jit(name):
    schedule = ALL[name]

    def all_four(t):
        methods = schedule.alpha, schedule.sigma, schedule.log_snr, schedule.log_snr_derivative
        return [method(t) for method in methods]

    values = jax.jit(all_four)(jnp.array([[0.25, 0.5, 0.75]], jnp.bfloat16))
    for value, scalar in zip(values, all_four(0.5), strict=True):
        assert value.shape == (1, 3)
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value[0, 1], scalar, rtol=1e-5)


def test_schedules_are_hashable_values():
    assert schedules.VP() == schedules.VP()
    assert len(set(ALL.values())) == len(ALL)
