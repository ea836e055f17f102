"""Which key draws what: the numbers that the bits of every run hang on."""

import jax
import jax.numpy as jnp
import numpy as np

from genjax.train import keys

RUN = jax.random.key(7)


def data(key):
    return np.asarray(jax.random.key_data(key))


def folded(*numbers):
    key = RUN
    for number in numbers:
        key = jax.random.fold_in(key, number)
    return data(key)


def test_a_run_folds_its_key_with_0_to_3_and_counts_rollbacks_on():
    # Another number would resume older runs with other noise.
    np.testing.assert_array_equal(data(keys.init_key(RUN)), folded(0))
    np.testing.assert_array_equal(data(keys.train_key(RUN)), folded(1))
    np.testing.assert_array_equal(data(keys.eval_key(RUN)), folded(2))
    for rollbacks in (1, 2, 3):
        np.testing.assert_array_equal(data(keys.train_key(RUN, rollbacks)), folded(2 + rollbacks))


def test_an_examples_key_is_of_its_step_player_and_global_index():
    step = keys.step_key(RUN, 5)
    expected = np.stack([folded(5, 1, i) for i in range(6)])
    np.testing.assert_array_equal(data(keys.example_keys(step, 1, 6, None)), expected)

    def share(_):
        return jax.random.key_data(keys.example_keys(step, 1, 3, "devices"))

    split = jax.vmap(share, axis_name="devices")(jnp.arange(2))
    np.testing.assert_array_equal(split.reshape(6, -1), expected)
