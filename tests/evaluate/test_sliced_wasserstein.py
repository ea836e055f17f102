"""The sliced Wasserstein distance against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.evaluate.sliced_wasserstein import sliced_wasserstein

KEY = jax.random.key(0)


@pytest.mark.heavy
def test_the_distance_to_a_permutation_of_the_same_set_is_zero():
    x = jax.random.normal(KEY, (50, 4, 4, 1))
    assert sliced_wasserstein(x, x[::-1], KEY) == 0


@pytest.mark.heavy
def test_the_distance_of_a_shifted_set_is_the_rms_of_the_shift():
    x = jax.random.normal(KEY, (50, 16))
    shift = jnp.linspace(0, 1, 16)
    # E (θ·s)² = |s|²/d over unit θ; 4,000 directions leave about 2 % of error.
    found = sliced_wasserstein(x, x + shift[None], KEY, projections=4000)
    np.testing.assert_allclose(found, np.sqrt(np.mean(shift**2)), rtol=0.06)


@pytest.mark.heavy
def test_two_gaussians_differ_by_their_standard_deviations():
    x = jax.random.normal(KEY, (20_000, 2))
    y = 3 * jax.random.normal(jax.random.key(1), (20_000, 2))
    # On each line W₂(N(0, 1), N(0, 9)) = 3 − 1, and θ has length √d, divided out again.
    found = sliced_wasserstein(x, y, KEY)
    np.testing.assert_allclose(found, 2, rtol=0.05)


def test_sets_of_different_shapes_raise():
    with pytest.raises(ValueError, match=r"x has \(2, 3\), y has \(2, 4\)"):
        sliced_wasserstein(jnp.zeros((2, 3)), jnp.zeros((2, 4)), KEY)
