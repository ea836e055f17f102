"""The contract of every sampler: any schedule and prediction, keys, dtypes, transforms, errors."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.diffusion import (
    adams_bashforth,
    correctors,
    discrete_schedules,
    interpolants,
    multistep,
    predictions,
    samplers,
    schedules,
    singlestep,
    steps,
)

pytestmark = pytest.mark.heavy


def interpolant(*args, schedule, **options):
    return interpolants.sde(*args, schedule=schedule, diffusion=schedule.sigma, **options)


SAMPLERS = {
    "ancestral": samplers.ancestral,
    "ddim": samplers.ddim,
    "ddim eta": functools.partial(samplers.ddim, eta=0.5),
    "euler": samplers.euler,
    "heun": samplers.heun,
    "heun churn": functools.partial(samplers.heun, churn=samplers.Churn(5.0, 0.01, 50.0)),
    "2m": multistep.dpm_solver_2m,
    "2m sde": functools.partial(multistep.dpm_solver_2m, eta=1.0),
    "3m sde": functools.partial(multistep.dpm_solver_3m, eta=1.0),
    "unipc": multistep.unipc,
    "lms": adams_bashforth.lms,
    "deis": adams_bashforth.deis,
    "dpm solver": functools.partial(singlestep.dpm_solver, order=3, eta=0.5),
    "2s": functools.partial(singlestep.dpm_solver_2s, eta=1.0),
    "sde": singlestep.dpm_solver_sde,
    "interpolant": interpolant,
    "corrector": correctors.predictor_corrector,
}
every_sampler = pytest.mark.parametrize("name", SAMPLERS)
# One sampler of each loop, for tests of the loop.
every_loop = pytest.mark.parametrize(
    "name", ["ddim", "ddim eta", "heun churn", "2m sde", "unipc", "lms", "sde", "corrector"]
)

SCHEDULES = {
    "cosine": schedules.Cosine(),
    "vp": schedules.VP(),
    "ve": schedules.VE(),
    "edm": schedules.EDM(),
    "flow": schedules.RectifiedFlow(),
    "zero snr": discrete_schedules.zero_terminal_snr(
        discrete_schedules.DiscreteLinear(steps=100, beta_end=0.2)
    ),
    "pure": schedules.Cosine(log_snr_max=math.inf, log_snr_min=-math.inf),
}
TARGETS = {
    "data": predictions.data,
    "noise": predictions.noise,
    "velocity": predictions.velocity,
    "score": predictions.score,
    "flow": predictions.flow,
    "edm": predictions.edm,
}
SILENT_AT_ZERO_SNR = ("noise", "score")
ENDS_WITHOUT_SIGNAL = ("flow", "zero snr", "pure")
# 32 elements, as the step of a Langevin corrector is a ratio of two norms.
COUNT, SIZE, STEPS, MEAN, STD = 128, 32, 32, 0.6, 0.4


class Chosen:
    """One of several objects by a traced index, so that one compilation is enough for all."""

    def __init__(self, choices, index):
        self.choices, self.index = list(choices.values()), index

    def __getattr__(self, name):
        methods = [getattr(choice, name) for choice in self.choices]
        return lambda *arguments: jax.lax.switch(self.index, methods, *arguments)


COSINE, VELOCITY = SCHEDULES["cosine"], TARGETS["velocity"]


def sample(name, key, shape, *, schedule=COSINE, target=VELOCITY, predict=None, n=STEPS, **options):
    def ideal(z, t):
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        a, s = alpha[:, None], sigma[:, None]
        gap = (z - a * MEAN) / (a**2 * STD**2 + s**2)
        return target.of(MEAN + a * STD**2 * gap, s * gap, alpha, sigma)

    return SAMPLERS[name](
        predict or ideal,
        key,
        shape,
        schedule=schedule,
        target=target,
        steps=steps.linear(n),
        **options,
    )


@functools.cache
def compiled(name):
    """(keys, index of schedule, of target, clip) -> sample and trajectory."""

    def run(keys, schedule, target, clip):
        shape = (keys.shape[0], SIZE)
        chosen = {"schedule": Chosen(SCHEDULES, schedule), "target": Chosen(TARGETS, target)}
        return sample(name, keys, shape, clip=clip, trajectory=True, **chosen)

    return jax.jit(run)


def run(name, keys, schedule="cosine", target="velocity", clip=(-math.inf, math.inf)):
    places = list(SCHEDULES).index(schedule), list(TARGETS).index(target)
    return compiled(name)(keys, *places, np.float32(clip))


def keys_from(seed):
    return jax.random.split(jax.random.key(seed), COUNT)


LONG = ("deis", "dpm solver", "2s", "sde", "heun churn")


@pytest.mark.heavy
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in SAMPLERS]
)
def test_from_pure_noise_to_clean_data_with_every_schedule_and_prediction(name):
    keys = keys_from(0)
    for schedule in SCHEDULES:
        expected, path = map(np.asarray, run(name, keys, schedule, "data"))
        assert np.isfinite(path).all()
        # 4,096 draws: 1 % of the deviation; the start lacks at most α(1)/σ(1) = 1/50 of the
        # mean, and at 32 steps a method of first order narrows by up to 27 %.
        np.testing.assert_allclose(expected.mean(), MEAN, atol=0.03)
        np.testing.assert_allclose(expected.std(), STD, rtol=0.3)
        silent = SILENT_AT_ZERO_SNR if schedule in ENDS_WITHOUT_SIGNAL else ()
        others = [target for target in TARGETS if target not in ("data", *silent)]
        # Two per sampler, so that together all pairs are covered.
        turn = list(SAMPLERS).index(name)
        for target in (others[turn % len(others)], others[(turn + 1) % len(others)]):
            x, path = map(np.asarray, run(name, keys, schedule, target))
            # The first x̂ is divided by α(1) >= 5e-5 of Cosine: float32 leaves 1e-7/5e-5 of it.
            np.testing.assert_allclose(x, expected, atol=5e-3, err_msg=f"{schedule} {target}")
            assert np.isfinite(path).all()


@every_sampler
def test_an_example_depends_on_its_own_key_alone(name):
    keys, others = keys_from(1), keys_from(2).at[2].set(keys_from(1)[2])
    one, other = run(name, keys)[0], run(name, others)[0]
    np.testing.assert_array_equal(one[2], other[2])
    assert jnp.abs(one - other).max(1).at[2].set(1).min() > 0.01


@pytest.mark.heavy
@every_loop
def test_jit_vmap_and_pmap_agree(name):
    keys = keys_from(3)

    def one(key):
        return sample(name, key[None], (1, SIZE))[0]

    mapped = jax.pmap(jax.vmap(one))(keys[:8].reshape(8, 1))
    # Rounding differs with the order of operations, and each of 32 steps may double it.
    np.testing.assert_allclose(mapped[:, 0], run(name, keys)[0][:8], atol=1e-4)


@every_loop
def test_bfloat16_in_and_out_with_float32_between(name):
    start = jax.random.normal(jax.random.key(6), (COUNT, SIZE)).astype(jnp.bfloat16)
    seen = []

    def predict(z, t):
        seen.append(z.dtype)
        # The velocity is zero for Gaussian data of deviation 1.
        return jnp.zeros_like(z)

    key = jax.random.key(0)
    x, path = jax.jit(
        lambda: sample(name, key, start.shape, start=start, predict=predict, trajectory=True)
    )()
    assert x.dtype == path.dtype == seen[0] == jnp.bfloat16
    np.testing.assert_array_equal(path[0], start)
    np.testing.assert_allclose(x.astype(float).std(), 1, rtol=0.2)
    if name == "ddim":
        # Each step shrinks z by cos(π/64) = 1 − .0012, which bfloat16 sums would round to 1.
        expected = start.astype(float) * math.cos(math.pi / 2 / STEPS) ** STEPS
        np.testing.assert_allclose(x.astype(float), expected, rtol=2**-8)


@every_sampler
def test_the_trajectory_ends_at_the_result(name):
    x, path = run(name, keys_from(4))
    assert path.shape == (STEPS + 1, COUNT, SIZE)
    np.testing.assert_array_equal(path[-1], x)
    # Along it the deviation goes from 1 to that of the data by that of z, √(α²STD² + σ²).
    times = steps.linear(STEPS)
    deviation = jnp.hypot(COSINE.alpha(times) * STD, COSINE.sigma(times))
    np.testing.assert_allclose(path.std((1, 2)), deviation, rtol=0.25)


@every_sampler
def test_the_network_is_traced_once_for_any_number_of_steps(name):
    calls = []

    def predict(z, t):
        calls.append(t.shape)
        return jnp.zeros_like(z)

    jax.eval_shape(lambda: sample(name, jax.random.key(0), (4, 3), predict=predict))
    assert calls == [(4,)]


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["ddim", "euler", "heun", "2m", "unipc", "lms"])
def test_deterministic_samplers_need_no_key_and_are_affine_for_gaussian_data(name):
    a, b = jax.random.normal(jax.random.key(8), (2, 4, SIZE))
    starts = jnp.concatenate([a, b, (a + b) / 2])

    def total(starts):
        # A schedule with an end without signal and one without noise.
        x = sample(name, None, starts.shape, start=starts, schedule=SCHEDULES["pure"])
        return x.sum(), x

    gradient, x = jax.jit(jax.grad(total, has_aux=True))(starts)
    np.testing.assert_allclose(x[8:], (x[:4] + x[4:8]) / 2, atol=1e-4)
    np.testing.assert_allclose(gradient[:4] * (a - b), x[:4] - x[4:8], atol=1e-4)


@every_sampler
def test_the_sample_lies_within_the_clip(name):
    x, _ = run(name, keys_from(5), clip=(0.5, 0.7))
    assert np.float32(0.5) <= x.min() < x.max() <= np.float32(0.7)


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["ddim eta", "2m sde", "sde", "corrector"])
def test_one_key_and_raw_keys_are_accepted(name):
    keys = jax.random.split(jax.random.key(0), 4)

    def all_three():
        typed = sample(name, keys, (4, SIZE))
        raw = sample(name, jax.random.key_data(keys), (4, SIZE))
        return typed, raw, sample(name, keys[0], (4, SIZE))

    typed, raw, single = jax.jit(all_three)()
    np.testing.assert_allclose(typed, raw, atol=1e-4)
    # All examples differ, though they share a key.
    assert jnp.abs(single[1:] - single[:-1]).max(1).min() > 0.01


@every_sampler
def test_wrong_shapes_raise_with_their_names(name):
    key = jax.random.key(0)

    def rejects(match, keys=key, **options):
        with pytest.raises(ValueError, match=match):
            jax.eval_shape(lambda: sample(name, keys, (4, 3), **options))

    rejects(r"\(4, 2\).*\(4, 3\)", start=jnp.zeros((4, 2)))
    rejects(r"\(4, 1\).*\(4, 3\)", predict=lambda z, t: z[:, :1])
    rejects("give it a key", keys=None)
    rejects("3 keys for 4", keys=jax.random.split(key, 3))
    rejects(r"steps.*\(1,\)", n=0)
