"""Shortcut models on a Gaussian's known flow, and by the paper's formula in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.losses import flow, shortcut

pytestmark = pytest.mark.heavy

STD, N = 0.6, 512
X = STD * jax.random.normal(jax.random.key(0), (N, 2))
KEY = jax.random.key(1)


def deviation(t):
    return jnp.sqrt((1 - t) ** 2 * STD**2 + t**2)


def exact(z, t, d):
    """(z_t − z_{t−d})/d along dz/dt = E[ε − x | z], the velocity where d = 0."""
    s = t - d
    gain = (t + s - (2 - t - s) * STD**2) / (deviation(t) * (deviation(t) + deviation(s)))
    return gain[:, None] * z


def network(z, t, d):
    return jnp.tanh(z * (1 + d[:, None])) * jnp.cos(3 * t)[:, None]


def inputs(steps=8, every=4, **more):
    """What the network is asked, z, t and d, and what its answers cost."""
    seen = []

    def predict(z, t, d):
        seen.append((z, t, d))
        return network(z, t, d)

    loss = shortcut.shortcut(predict, network, X, KEY, steps=steps, every=every, **more)
    return *map(np.float64, seen[0]), np.float64(loss)


def test_value_is_the_papers_formula_in_float64():
    z, t, d, loss = inputs()

    def u(z, t, d):
        return np.tanh(z * (1 + d[:, None])) * np.cos(3 * t)[:, None]

    x, some = np.float64(X), np.arange(N) % 4 == 0
    eps = (z - (1 - t)[:, None] * x) / t[:, None]
    half = np.where(d / 2 > 1 / 8, d / 2, 0)
    first = u(z, t, half)
    second = u(z - (d / 2)[:, None] * first, t - d / 2, half)
    wanted = np.where(some[:, None], (first + second) / 2, eps - x)
    # ε is recovered by a division by t: only where that is no less than a tenth.
    sure = some | (t > 0.1)
    expected = ((wanted - u(z, t, d)) ** 2).sum(1)
    np.testing.assert_allclose(loss[sure], expected[sure], rtol=1e-4, atol=1e-4)


def test_sizes_are_powers_of_two_and_times_their_multiples():
    _, t, d, _ = inputs(steps=16, every=2)
    some = np.arange(N) % 2 == 0
    assert (d[~some] == 0).all()
    sizes, counts = np.unique(d[some], return_counts=True)
    np.testing.assert_array_equal(sizes, [1 / 8, 1 / 4, 1 / 2, 1])
    assert counts.min() > 64 - 4 * 7  # 256 draws of four: 64 ± 7
    places = t[some] / d[some]
    np.testing.assert_array_equal(places, np.round(places))
    for size in sizes:
        found = np.unique(t[some & (d == size)])
        np.testing.assert_array_equal(found, size * np.arange(1, 1 / size + 1))
    _, t, d, _ = inputs(steps=2, every=1)  # the fewest: all steps are whole ones
    np.testing.assert_array_equal([t, d], 1)


def test_a_teacher_that_is_exact_teaches_the_exact_step():
    def loss(student):
        return shortcut.shortcut(student, exact, X, KEY, steps=4096, every=1)

    # Two exact halves are one exact step; the least halves are taken as velocities, off by 1/4096.
    assert float(jax.jit(loss, static_argnums=0)(exact).max()) < 1e-6
    wrong = jax.jit(loss, static_argnums=0)(lambda z, t, d: exact(z, t, jnp.zeros_like(d)))
    assert float(wrong.mean()) > 1e-3


def test_without_steps_it_is_flow_matching():
    t = jnp.linspace(0.1, 0.9, N)

    def error(z, t):
        return network(z, t, jnp.zeros_like(t))

    loss = shortcut.shortcut(network, network, X, KEY, times=t, every=N)
    key = jax.random.split(KEY, 4)[1]
    eps = jax.random.normal(key, X.shape)
    z = (1 - t)[:, None] * X + t[:, None] * eps
    expected = ((eps - X - error(z, t)) ** 2).sum(1)
    np.testing.assert_allclose(loss[1:], expected[1:], rtol=1e-5, atol=1e-6)
    assert flow.flow_matching(error, X, KEY, times=t).shape == loss.shape


def test_the_teacher_gets_no_gradient_and_the_student_all():
    def loss(of_student, of_teacher):
        return shortcut.shortcut(
            lambda z, t, d: of_student * network(z, t, d),
            lambda z, t, d: of_teacher * network(z, t, d),
            *(X, KEY),
        ).mean()

    student, teacher = jax.jit(jax.grad(loss, (0, 1)))(1.0, 1.0)
    assert teacher == 0
    assert abs(student) > 0.01


def test_the_examples_that_learn_steps_do_not_depend_on_the_devices():
    each = jax.random.split(KEY, 32)

    def loss(x, key):
        return shortcut.shortcut(network, network, x, key, every=2)

    one = jax.jit(loss)(X[:32], each)
    eight = jax.pmap(loss)(X[:32].reshape(8, 4, 2), each.reshape(8, 4)).reshape(32)
    np.testing.assert_allclose(one, eight, rtol=1e-6)


@pytest.mark.parametrize("steps", [1, 3, 0, 12])
def test_steps_are_powers_of_two(steps):
    with pytest.raises(ValueError, match=f"power of 2 from 2, not {steps}"):
        shortcut.shortcut(network, network, X, KEY, steps=steps)


def test_every_divides_the_batch():
    with pytest.raises(ValueError, match="every 5 must divide the examples of a device, 512"):
        shortcut.shortcut(network, network, X, KEY, every=5)


def test_bfloat16_data_stay_so_and_sums_are_float32():
    seen = []

    def predict(z, t, d):
        seen.append((z.dtype, t.dtype, d.dtype))
        return (z * d[:, None]).astype(z.dtype)

    loss = shortcut.shortcut(predict, predict, X.astype(jnp.bfloat16), KEY)
    assert loss.dtype == jnp.float32
    assert {kinds[0] for kinds in seen} == {np.dtype(jnp.bfloat16)}
    assert {kind for kinds in seen for kind in kinds[1:]} == {np.dtype("float32")}
    assert np.isfinite(np.float32(loss)).all()


def test_wrong_predictions_raise():
    for predict, teacher in ((network, lambda z, t, d: z[:, :1]), (lambda z, t, d: t, network)):
        with pytest.raises(ValueError, match="shape"):
            shortcut.shortcut(predict, teacher, X, KEY)
