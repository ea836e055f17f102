"""The step: turns, microbatches, frozen parameters, averages, keys."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax.train.game import Aux, Player, initial_state
from genjax.train.step import make_step

KEY = jax.random.key(0)
X = jnp.asarray(np.random.default_rng(0).normal(size=(16, 3)), jnp.float32)


def regression(params, state, keys, batch):
    return jnp.mean((batch @ params["fit"]["w"] - 1) ** 2), Aux({"size": jnp.float32(len(batch))})


def play(game, params, batch=X, steps=1, variables=None):
    state = initial_state(game, params, variables or {})
    step = jax.jit(make_step(game, None))
    for _ in range(steps):
        state, metrics = step(state, KEY, batch)
    return state, metrics


def fit(**how):
    return {"fit": Player(regression, optax.sgd(0.1), **how)}


START = {"fit": {"w": jnp.zeros(3)}}


def test_a_step_is_one_optax_update_of_the_players_own_gradient():
    state, metrics = play(fit(), START)
    gradient = jax.grad(lambda w: jnp.mean((X @ w - 1) ** 2))(jnp.zeros(3))
    np.testing.assert_allclose(state.params["fit"]["w"], -0.1 * gradient, rtol=1e-6)
    np.testing.assert_allclose(metrics["fit/grad_norm"], jnp.linalg.norm(gradient), rtol=1e-6)
    assert metrics["fit/loss"] == 1
    assert state.step == 1


@pytest.mark.parametrize(
    ("rate", "recorded"),
    [(0.25, 0.25), (optax.schedules.linear_schedule(0.0, 1.0, 8), 0.5), (None, None)],
)
def test_the_learning_rate_is_recorded_and_changes_nothing(rate, recorded):
    """Of the third step; with two turns a step its first update is the fifth."""
    state, metrics = play(fit(turns=2, learning_rate=rate), START, steps=3)
    plain, _ = play(fit(turns=2), START, steps=3)
    assert metrics.get("fit/learning_rate") == (None if rate is None else np.float32(recorded))
    jax.tree.map(np.testing.assert_array_equal, state, plain)


def test_microbatches_give_the_update_of_the_full_batch():
    full, _ = play(fit(), START, steps=3)
    cut, metrics = play(fit(microbatches=4), START, steps=3)
    np.testing.assert_allclose(cut.params["fit"]["w"], full.params["fit"]["w"], rtol=1e-5)
    assert metrics["fit/size"] == 4


def test_turns_are_updates_on_successive_slices():
    turned, metrics = play(fit(turns=4), START)
    state = initial_state(fit(), START, {})
    step = make_step(fit(), None)
    for j in range(4):
        state, _ = step(state, KEY, X[j::4])
    np.testing.assert_allclose(turned.params["fit"]["w"], state.params["fit"]["w"], rtol=1e-5)
    assert metrics["fit/size"] == 4


def test_a_later_player_sees_the_earlier_one_updated():
    def chase(params, state, keys, batch):
        return jnp.sum((params["second"] - params["first"]) ** 2), Aux()

    def leave(params, state, keys, batch):
        return -jnp.sum(params["first"]), Aux()

    game = {"first": Player(leave, optax.sgd(1.0)), "second": Player(chase, optax.sgd(0.5))}
    state, metrics = play(game, {"first": jnp.zeros(()), "second": jnp.zeros(())})
    assert metrics["second/loss"] == 1  # (0 − 1)²: it uses the first player after its update
    assert state.params["second"] == 1


def test_parameters_without_a_player_stay_frozen_and_are_visible_to_the_others():
    def follow(params, state, keys, batch):
        return jnp.sum((params["fit"]["w"] - params["frozen"]["w"]) ** 2), Aux()

    params = {"fit": {"w": jnp.zeros(3)}, "frozen": {"w": jnp.ones(3)}}
    state, _ = play({"fit": Player(follow, optax.sgd(0.5))}, params)
    np.testing.assert_array_equal(state.params["frozen"]["w"], jnp.ones(3))
    np.testing.assert_array_equal(state.params["fit"]["w"], jnp.ones(3))


def test_the_average_follows_its_formula():
    game = fit(ema=0.5)
    state, expected = initial_state(game, START, {}), jnp.zeros(3)
    step = make_step(game, None)
    for n in range(3):
        state, _ = step(state, KEY, X)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * state.params["fit"]["w"]
    np.testing.assert_allclose(state.ema["fit"]["w"], expected, rtol=1e-5)
    assert state.averaged()["fit"] is state.ema["fit"]


def test_every_example_step_and_player_has_its_own_noise():
    def noisy(params, state, keys, batch):
        draws = jax.vmap(jax.random.normal)(keys)
        return jnp.sum(params["a"]), Aux({str(i): draws[i] for i in range(4)})

    def other(params, state, keys, batch):
        return jnp.sum(params["b"]), Aux({"0": jax.random.normal(keys[0])})

    game = {"a": Player(noisy, optax.sgd(0.0)), "b": Player(other, optax.sgd(0.0))}
    state = initial_state(game, {"a": jnp.zeros(1), "b": jnp.zeros(1)}, {})
    step = jax.jit(make_step(game, None))
    draws = []
    for _ in range(2):
        state, metrics = step(state, KEY, X[:4])
        draws += [float(metrics[f"a/{i}"]) for i in range(4)] + [float(metrics["b/0"])]
    assert len(set(draws)) == len(draws)


def test_variables_a_loss_returns_reach_the_next_turn():
    def count(params, state, keys, batch):
        return jnp.sum(params["fit"]["w"]), Aux(
            variables={"fit": {"n": state.variables["fit"]["n"] + 1}}
        )

    game = {"fit": Player(count, optax.sgd(0.0), turns=2, microbatches=2)}
    state, _ = play(game, START, steps=3, variables={"fit": {"n": jnp.zeros(())}})
    assert state.variables["fit"]["n"] == 12


def test_a_game_without_parameters_or_with_indivisible_slices_raises():
    with pytest.raises(ValueError, match="no parameters for the players"):
        initial_state(fit(), {"else": jnp.zeros(3)}, {})
    with pytest.raises(ValueError, match="batch of 16 per device into 3 slices"):
        play(fit(turns=3), START)
    with pytest.raises(ValueError, match="at least 1"):
        fit(turns=0)
    with pytest.raises(ValueError, match="EMA"):
        fit(ema=1.0)


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_an_update_that_is_not_finite_is_skipped_completely(broken):
    def fragile(params, state, keys, batch):
        w = params["fit"]["w"]
        value = jnp.mean((batch @ w - 1) ** 2)
        bad = state.step == 1
        if broken == "loss":
            value = value + jnp.where(bad, jnp.inf, 0.0)
        else:  # finite in value, 0/0 in derivative
            value += jnp.sqrt(jnp.where(bad, jnp.sum(w - jax.lax.stop_gradient(w)), 1.0))
        n = {"fit": {"n": state.variables["fit"]["n"] + 1}}
        return value, Aux(variables=n)

    game = {"fit": Player(fragile, optax.adam(0.1), ema=0.5)}
    step = jax.jit(make_step(game, None, skip_nonfinite=True))
    states, skips = [initial_state(game, START, {"fit": {"n": jnp.zeros(())}})], []
    for _ in range(3):
        state, metrics = step(states[-1], KEY, X)
        states.append(state)
        skips.append(float(metrics["fit/skipped"]))
    assert skips == [0, 1, 0]
    assert [int(state.step) for state in states] == [0, 1, 2, 3]
    jax.tree.map(
        np.testing.assert_array_equal, replace(states[2], step=0), replace(states[1], step=0)
    )
    assert states[3].variables["fit"]["n"] == 2
    assert not np.array_equal(states[3].params["fit"]["w"], states[2].params["fit"]["w"])
