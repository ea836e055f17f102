"""One key or one per example; the global batch where a mapped axis splits it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import keys, numerics, over_batch


@pytest.mark.heavy
@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey])
def test_one_key_per_example_draws_each_example_from_its_own(make):
    one = make(0)
    each = jax.random.split(one, 4)
    assert keys.is_single(one)
    assert not keys.is_single(each)
    drawn = keys.normal(each, (4, 3))
    np.testing.assert_array_equal(drawn[2], jax.random.normal(each[2], (3,)))
    np.testing.assert_array_equal(keys.normal(one, (4, 3)), jax.random.normal(one, (4, 3)))
    np.testing.assert_array_equal(keys.uniform(each, (4, 3))[1], jax.random.uniform(each[1], (3,)))
    first, second = keys.split(each, 2, 4)
    pair = jax.random.split(each[3])
    np.testing.assert_array_equal(keys.normal(first, (4,))[3], jax.random.normal(pair[0]))
    np.testing.assert_array_equal(keys.normal(second, (4,))[3], jax.random.normal(pair[1]))
    folded = keys.normal(keys.fold_in(each, 7), (4,))
    np.testing.assert_array_equal(folded[1], jax.random.normal(jax.random.fold_in(each[1], 7)))


def test_a_wrong_number_of_keys_raises():
    each = jax.random.split(jax.random.key(0), 3)
    for wrong in (lambda: keys.normal(each, (4,)), lambda: keys.split(each, 2, 4)):
        with pytest.raises(ValueError, match="one per example: 3 keys for 4"):
            wrong()


def test_a_key_per_example_is_folded_with_the_examples_index():
    one = jax.random.key(3)
    found = jax.random.key_data(keys.per_example(one, 3, 5))
    expected = [jax.random.key_data(jax.random.fold_in(one, i)) for i in (5, 6, 7)]
    np.testing.assert_array_equal(found, jnp.stack(expected))


def test_the_tangent_continues_the_exponential_with_its_slope():
    value, slope = jax.value_and_grad(numerics.exp_with_tangent)(jnp.asarray(32.0))
    np.testing.assert_allclose(value, np.exp(30.0) * 3, rtol=1e-6)
    np.testing.assert_allclose(slope, np.exp(30.0), rtol=1e-6)
    np.testing.assert_allclose(numerics.exp_with_tangent(jnp.asarray(2.0)), np.exp(2.0), rtol=1e-6)


def test_a_sum_per_example_keeps_the_first_axis_alone():
    np.testing.assert_array_equal(numerics.sum_per_example(jnp.ones((2, 3, 4))), [12, 12])
    np.testing.assert_array_equal(numerics.sum_per_example(jnp.arange(3.0)), [0, 1, 2])


def test_mismatched_shapes_raise():
    with pytest.raises(ValueError, match="one per example"):
        numerics.expand(jnp.ones(3), jnp.ones((4, 2)))
    with pytest.raises(ValueError, match="mean has"):
        numerics.check_same_shape(mean=jnp.ones(2), x=jnp.ones(3))


@pytest.mark.heavy
def test_reductions_cover_the_global_batch_with_and_without_a_mapped_axis():
    x = jnp.arange(8.0)
    each = jax.random.split(jax.random.key(0), 8)

    def measure(x, each):
        rows = over_batch.gather(x)
        noise = keys.normal(over_batch.gather(each), (8,))
        own = over_batch.own_rows(rows * 2, len(x))
        return over_batch.mean(x.mean()), over_batch.total(x.sum()), rows, noise, own

    full = measure(x, each)
    split = jax.pmap(measure, axis_name="data", devices=jax.devices()[:4])(
        x.reshape(4, 2), each.reshape(4, 2)
    )
    for here, there in zip(full[:4], split[:4], strict=True):
        for device in range(4):
            np.testing.assert_array_equal(there[device], here)
    np.testing.assert_array_equal(split[4].ravel(), full[4])
    devices = jax.pmap(lambda x: x * over_batch.shards(), "data", devices=jax.devices()[:4])
    np.testing.assert_array_equal(devices(np.ones(4)), 4)
    assert over_batch.shards() == 1
    assert not over_batch.is_mapped(None)
    assert not over_batch.is_mapped("data")


def test_one_number_per_example_is_shaped_to_multiply_a_batch():
    like = jnp.zeros((2, 3, 4))
    assert numerics.expand(2.0, like).shape == (1, 1, 1)
    assert numerics.expand(jnp.ones(2), like).shape == (2, 1, 1)
    for wrong in (jnp.ones(3), jnp.ones(4)):
        with pytest.raises(ValueError, match="a scalar or one per example"):
            numerics.expand(wrong, like)


def test_the_divergence_to_the_standard_normal_is_that_of_float64():
    mean, std = np.array([0.0, 1.0, -2.0, 0.3]), np.array([1.0, 0.5, 3.0, 1.0001])
    expected = (mean**2 + std**2 - 1 - np.log(std**2)) / 2
    found = numerics.kl_to_standard_normal(jnp.float32(mean), jnp.float32(std))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_times_are_floats_that_a_schedule_can_reach():
    for allowed in (0, 1, jnp.array([0, 1]), 0.5, -1.0, 2.0):
        checked = keys.check_times(allowed)
        assert checked.dtype == jnp.float32
        np.testing.assert_array_equal(checked, allowed)
    for wrong in (2, jnp.array([0, 3]), -1.01, 2.01, 500.0):
        with pytest.raises(ValueError, match="divide step numbers by the number of steps"):
            keys.check_times(wrong)
    for wrong in (abs, "0.5", None):
        with pytest.raises(TypeError, match=r"must be an array of floats in 0\.\.1"):
            keys.check_times(wrong)
    traced = jax.jit(keys.check_times)(jnp.array([-1.01, -1.0, 0.3, 2.0, 2.01]))
    np.testing.assert_array_equal(jnp.isnan(traced), [True, False, False, False, True])


def test_images_are_arrays_of_floats():
    numerics.check_floats(x=jnp.zeros((2, 3)), y=np.zeros(1))
    for wrong in (jnp.zeros((2, 3), jnp.uint8), jnp.zeros(()), 1.0):
        with pytest.raises(ValueError, match="x must be floats"):
            numerics.check_floats(x=wrong)
