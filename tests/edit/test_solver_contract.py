"""The contract of every solver: keys, devices, dtypes, schedules and predictions, ends, errors."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import predictions, schedules, steps
from genjax.edit import ddnm, dps, pigdm, repaint, twisted_smc
from genjax.edit.operator import Operator
from tests.diffusion.test_sampler_contract import Chosen
from tests.edit import exact

SOLVERS = {
    "repaint": functools.partial(repaint.repaint, jump=2, resamplings=2),
    "ddnm": ddnm.ddnm,
    "pigdm": pigdm.pigdm,
    "dps": dps.dps,
    "smc": lambda *args, **options: twisted_smc.twisted_smc(*args, particles=4, **options).x,
}
every_solver = pytest.mark.parametrize("name", SOLVERS)
LINEAR = ("repaint", "ddnm", "pigdm")

SCHEDULES = {
    "cosine": schedules.Cosine(),
    "flow": schedules.RectifiedFlow(),
    "edm": schedules.EDM(),
}
TARGETS = {
    "velocity": predictions.velocity,
    "noise": predictions.noise,
    "data": predictions.data,
    "flow": predictions.flow,
}
COUNT = 8
LEVELS = jnp.linspace(-8.0, 6.0, 9)
Y = exact.batch(exact.observation(exact.SMOOTH, "mask", 0.1), "mask", COUNT)


def keys_from(seed):
    return jax.random.split(jax.random.key(seed), COUNT)


def solve(name, keys, y, noise, keep, schedule, target):
    """On a grid of log-SNRs that all schedules share."""
    return exact.solve(
        SOLVERS[name],
        exact.SMOOTH,
        exact.mask(keep),
        keys,
        y,
        noise,
        schedule=schedule,
        target=target,
        steps=jnp.append(schedule.time(LEVELS), 0.0),
    )


@functools.cache
def compiled(name):
    def run(keys, y, noise, keep, schedule, target):
        chosen = Chosen(SCHEDULES, schedule), Chosen(TARGETS, target)
        return solve(name, keys, y, noise, keep, *chosen)

    return jax.jit(run)


def run(name, keys, y=Y, noise=0.1, *, keep=exact.KEEP, schedule="cosine", target="velocity"):
    places = list(SCHEDULES).index(schedule), list(TARGETS).index(target)
    return compiled(name)(keys, y, noise, keep, *places)


@every_solver
def test_every_schedule_and_prediction_gives_the_same_image(name):
    expected = run(name, keys_from(0))
    assert jnp.isfinite(expected).all()
    for schedule, target in [("flow", "flow"), ("edm", "data"), ("flow", "noise")]:
        found = run(name, keys_from(0), schedule=schedule, target=target)
        # Times of a log-SNR, and x̂ of noise and α = 0.02, are rounded.
        np.testing.assert_allclose(found, expected, atol=5e-3, err_msg=f"{schedule} {target}")


@every_solver
def test_an_example_depends_on_its_own_key_and_observation_alone(name):
    keys, others = keys_from(1), keys_from(2).at[2].set(keys_from(1)[2])
    one, other = run(name, keys), run(name, others, (Y + 1).at[2].set(Y[2]))
    np.testing.assert_array_equal(one[2], other[2])
    assert jnp.abs(one - other).max((1, 2, 3)).at[2].set(1).min() > 0.01


@every_solver
def test_without_noise_the_image_explains_the_observation(name):
    y = Y * 2
    x = run(name, keys_from(3), y, noise=0.0)
    np.testing.assert_array_equal(exact.operator("mask")(x), y)
    assert jnp.abs(run(name, keys_from(3), y, noise=0.5) - x).max() > 0.01


@pytest.mark.parametrize("name", [pytest.param("ddnm", marks=pytest.mark.slow), "smc"])
def test_jit_vmap_and_eight_devices_agree(name):
    def one(key, y):
        arguments = 0.1, exact.KEEP, SCHEDULES["cosine"], TARGETS["velocity"]
        return solve(name, key[None], y[None], *arguments)[0]

    mapped = jax.pmap(jax.vmap(one))(keys_from(4)[:, None], Y[:, None])
    # Rounding differs with the order of operations, and each of 9 steps may double it.
    np.testing.assert_allclose(mapped[:, 0], run(name, keys_from(4)), atol=1e-4)


@every_solver
def test_an_empty_mask_returns_the_input(name):
    x = jax.random.normal(jax.random.key(5), (COUNT, *exact.SHAPE))
    everything = jnp.ones(exact.SHAPE)
    np.testing.assert_array_equal(run(name, keys_from(5), x, 0.0, keep=everything), x)


def shaped(name, **options):
    """A solver's result as a shape: nothing is compiled."""
    settings = {
        "predict": lambda z, t: jnp.zeros_like(z),
        "key": jax.random.key(0),
        "y": jnp.zeros((2, *exact.SHAPE)),
        "operator": exact.operator("mask"),
        "schedule": SCHEDULES["cosine"],
        "target": predictions.velocity,
        "steps": steps.linear(6),
        **options,
    }
    arguments = [settings.pop(name) for name in ("predict", "key", "y", "operator")]
    return jax.eval_shape(lambda: SOLVERS[name](*arguments, **settings))


@every_solver
def test_the_start_sets_the_dtype(name):
    seen = []

    def predict(z, t):
        seen.append(z.dtype)
        return jnp.zeros_like(z)

    shape = (2, 4, *exact.SHAPE) if name == "smc" else (2, *exact.SHAPE)
    x = shaped(name, predict=predict, start=jnp.zeros(shape, jnp.bfloat16))
    assert x.dtype == seen[0] == jnp.bfloat16
    assert x.shape == (2, *exact.SHAPE)
    # However many steps: one scan.
    assert len(seen) == 1


@every_solver
def test_wrong_arguments_are_refused_in_one_line(name):
    def rejects(match, error=ValueError, **options):
        with pytest.raises(error, match=match):
            shaped(name, **options)

    rejects(r"y has shape \(2, 3\).*\(2, 4, 4, 1\)", y=jnp.zeros((2, 3)))
    rejects("y must be floats", y=jnp.zeros((2, *exact.SHAPE), int))
    rejects("3 keys for 2", key=jax.random.split(jax.random.key(0), 3))
    rejects("strictly", steps=jnp.array([1.0, 0.5, 0.5, 0.0]))
    rejects("operator must be an object", TypeError, operator=lambda x: x)
    if name in LINEAR:
        clipping = Operator(lambda x: jnp.clip(x, -1, 1), exact.SHAPE, linear=False)
        rejects("take dps or twisted_smc", operator=clipping)
    if name == "repaint":
        unknown = dataclasses.replace(exact.operator("mask"), gram=None)
        rejects("with noise, repaint needs", operator=unknown, noise=0.1)
        rejects("give 1 or more", jump=0)


def test_particles_must_be_a_number_above_0():
    with pytest.raises(ValueError, match="particles must be 1 or more, not 0"):
        exact.solve(twisted_smc.twisted_smc, exact.SMOOTH, "mask", None, Y, particles=0)


@pytest.mark.parametrize("name", ["dps", "smc"])
def test_an_operator_need_not_be_linear(name):
    squares = Operator(lambda x: jnp.abs(x), exact.SHAPE, linear=False)
    schedule = SCHEDULES["cosine"]
    y = jnp.full((64, *exact.SHAPE), 0.6)

    def misfit(y, noise):
        x = SOLVERS[name](
            exact.predict(exact.SMOOTH, schedule),
            jax.random.key(0),
            y,
            squares,
            schedule=schedule,
            target=predictions.velocity,
            steps=steps.linear(50),
            noise=noise,
        )
        return jnp.sqrt(jnp.mean((squares(x) - y) ** 2)), x

    error, x = jax.jit(misfit)(y, 0.1)
    # The data have a standard deviation of 0.55 and both signs are as good.
    assert error < 0.25
    assert jnp.mean(x > 0) == pytest.approx(0.5, abs=0.4)


def test_the_path_of_repaint_is_that_of_the_authors_program():
    rows, _, std = repaint._travel(
        repaint.Row(*[jnp.arange(250.0)] * 9), SCHEDULES["cosine"], steps.linear(250), 10, 10
    )
    # The states that the program passes: from 249 to 230, up to 240, nine times; down to 220; …
    states, t, left = [249], 249, dict.fromkeys(range(0, 240, 10), 9)
    while t >= 0:
        t -= 1
        states.append(t)
        if left.get(t, 0) > 0:
            left[t] -= 1
            states += range(t + 1, t + 11)
            t += 10
    times = [a for a, b in itertools.pairwise(states) if b < a]
    np.testing.assert_array_equal(rows.t, 249 - np.array(times))
    assert len(times) == 2410
    assert int((std > 0).sum()) == 9 * 24
