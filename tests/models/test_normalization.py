"""Normalisation against linen's, NumPy's and the singular values, on one device and on eight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from genjax.models import dcgan, layers, normalization
from genjax.over_batch import DATA_AXIS

pytestmark = pytest.mark.heavy

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (8, 6, 6, 12)) * 2 + 1
# Sums of some hundred float32 numbers of order one, in another order.
SUMS = {"rtol": 1e-4, "atol": 1e-4}


def assert_trees_close(ours, theirs, **tolerance):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), ours, theirs)


def test_group_norm_matches_linen_in_parameters_values_and_gradients():
    found = []
    for module in (normalization.GroupNorm(4), nn.GroupNorm(4)):
        initial = module.init(KEY, X)
        variables = jax.tree.map(lambda a: a + 0.1, initial)  # away from 1 and 0
        y, back = jax.vjp(jax.jit(module.apply), variables, X)
        found.append((initial, y, *back(jnp.cos(y))))
    assert_trees_close(*found, **SUMS)
    with pytest.raises(ValueError, match="12 channels do not divide into 5 groups"):
        normalization.GroupNorm(5).init(KEY, X)


@pytest.mark.parametrize("train", [True, False])
def test_batch_norm_matches_linen(train):
    ours, theirs = normalization.BatchNorm(), nn.BatchNorm(use_running_average=not train)
    variables = ours.init(KEY, X, train=train)
    assert_trees_close(variables, theirs.init(KEY, X), rtol=0)
    variables = jax.tree.map(lambda a: a + 0.1, variables)
    assert_trees_close(
        jax.jit(lambda v: ours.apply(v, X, train=train, mutable="batch_stats"))(variables),
        jax.jit(lambda v: theirs.apply(v, X, mutable="batch_stats"))(variables),
        **SUMS,
    )


def test_batch_norm_of_a_pmapped_batch_is_that_of_the_global_batch():
    module = normalization.BatchNorm()
    variables = module.init(KEY, X, train=True)
    initial = jax.pmap(lambda x: module.init(KEY, x, train=True), "data")(X[:, None])
    assert_trees_close(jax.tree.map(lambda a: a[3], initial), variables, rtol=0)

    def normalise(x):
        return module.apply(variables, x, train=True, mutable="batch_stats")

    y, state = jax.pmap(normalise, "data", out_axes=(0, None))(X[:, None])
    assert_trees_close((y[:, 0], state), normalise(X), **SUMS)
    alone, _ = jax.pmap(normalise, "other", out_axes=(0, None))(X[:, None])
    assert np.abs(alone[:, 0] - y[:, 0]).max() > 0.1


def test_statistics_of_bfloat16_are_in_float32():
    x = X.astype(jnp.bfloat16) + 100
    for module, arguments in [
        (normalization.GroupNorm(4), {}),
        (normalization.BatchNorm(), {"train": True}),
    ]:
        variables = module.init(KEY, x, **arguments)
        y = module.apply(variables, x, **arguments, mutable=["batch_stats"])[0]
        exact = module.apply(
            variables, x.astype(jnp.float32), **arguments, mutable=["batch_stats"]
        )[0]
        assert y.dtype == jnp.bfloat16
        np.testing.assert_allclose(y.astype(jnp.float32), exact, rtol=2**-8)


def deviation(x):
    """The definition in float64."""
    return np.std(np.asarray(x, np.float64), axis=0).mean()


@pytest.mark.parametrize("x", [X, X[:, 0, 0] + 1000])
def test_minibatch_stddev_appends_the_mean_deviation_over_the_batch(x):
    y = normalization.MinibatchStddev().apply({}, x)
    np.testing.assert_array_equal(y[..., :-1], x)
    # float32 knows 1,000 to 6e-5; the deviations are of order one.
    np.testing.assert_allclose(y[..., -1], deviation(x), rtol=1e-4)


def test_minibatch_stddev_of_equal_examples_has_a_finite_gradient():
    module = normalization.MinibatchStddev()
    x = jnp.broadcast_to(jnp.round(X[:1]), X.shape)  # integers, whose mean is exact
    assert module.apply({}, x)[..., -1].max() < 2 * np.sqrt(module.epsilon)
    gradient = jax.grad(lambda x: module.apply({}, x)[..., -1].sum())(x)
    np.testing.assert_array_equal(gradient, 0)


def test_minibatch_stddev_of_a_pmapped_batch_is_that_of_the_global_batch():
    module = normalization.MinibatchStddev()

    def value_and_gradient(x):
        y, back = jax.vjp(lambda x: module.apply({}, x), x)
        return y, back(jnp.cos(y))[0]

    split = jax.pmap(value_and_gradient, DATA_AXIS)(X[:, None])
    assert_trees_close(tuple(a[:, 0] for a in split), value_and_gradient(X), **SUMS)


class Spectral(nn.Module):
    """The two kinds of kernel that the critic normalises."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.SpectralNorm(layers.Conv(5, (3, 3), (2, 2)))(x, update_stats=train)
        return nn.SpectralNorm(nn.Dense(3))(x.reshape(x.shape[0], -1), update_stats=train)


def divided(params):
    """The kernels over their largest singular values, by NumPy."""

    def divide(kernel):
        largest = np.linalg.svd(np.asarray(kernel).reshape(-1, kernel.shape[-1]))[1][0]
        return kernel / largest

    return {
        name: {"kernel": divide(layer["kernel"]), "bias": layer["bias"]}
        for name, layer in params.items()
    }


@pytest.fixture(scope="module")
def spectral():
    """The module and its variables after enough steps of the power iteration."""
    module = Spectral()
    variables = module.init(KEY, X)

    @jax.jit
    def step(stats):
        variables_now = {**variables, "batch_stats": stats}
        return module.apply(variables_now, X, train=True, mutable="batch_stats")[1]["batch_stats"]

    stats = variables["batch_stats"]
    for _ in range(100):
        stats = step(stats)
    return module, {**variables, "batch_stats": stats}


def plain(params, x):
    """Spectral's network with the kernels as they are."""
    x = layers.Conv(5, (3, 3), (2, 2)).apply({"params": params["Conv_0"]}, x)
    return nn.Dense(3).apply({"params": params["Dense_0"]}, x.reshape(x.shape[0], -1))


def test_spectral_norm_divides_our_kernels_by_their_largest_singular_values(spectral):
    module, variables = spectral
    expected = plain(divided(variables["params"]), X)
    np.testing.assert_allclose(module.apply(variables, X), expected, rtol=1e-3, atol=1e-4)


def test_spectral_norm_has_the_gradient_through_the_singular_value(spectral):
    module, variables = spectral

    def scaled(factor, layer, params):
        kernel = params[layer]["kernel"] * factor
        return {**params, layer: {**params[layer], "kernel": kernel}}

    def total(params):
        return jnp.sum(jnp.cos(module.apply({**variables, "params": params}, X)))

    gradient = jax.jit(jax.grad(total))(variables["params"])
    for layer in ("Conv_0", "Dense_0"):
        kernel, g = variables["params"][layer]["kernel"], gradient[layer]["kernel"]
        # A scaled kernel gives the same values: the gradient is orthogonal to the kernel.
        assert abs(jnp.vdot(kernel, g)) < 1e-4 * jnp.linalg.norm(kernel) * jnp.linalg.norm(g)
        # Along one direction, against the exact singular values by central differences.
        direction = jax.random.normal(KEY, kernel.shape)

        def along(h, layer=layer, direction=direction, kernel=kernel):
            moved = {**variables["params"][layer], "kernel": kernel + h * direction}
            exact = divided({**variables["params"], layer: moved})
            return np.sum(np.cos(np.asarray(plain(exact, X), np.float64)))

        # h: half the digits of float32 go to the difference, half to the curvature.
        h = 3e-3
        difference = (along(h) - along(-h)) / (2 * h)
        assert abs(jnp.vdot(direction, g) - difference) < 1e-2 * jnp.linalg.norm(g)


def test_spectral_norm_iterates_only_in_training(spectral):
    module, _ = spectral
    variables = module.init(KEY, X)
    _, after = module.apply(variables, X, train=False, mutable="batch_stats")
    assert_trees_close(after["batch_stats"], variables["batch_stats"], rtol=0)
    trained, after = module.apply(variables, X, train=True, mutable="batch_stats")
    assert any(
        np.abs(a - b).max() > 1e-3
        for a, b in zip(
            jax.tree.leaves(after["batch_stats"]),
            jax.tree.leaves(variables["batch_stats"]),
            strict=True,
        )
    )
    np.testing.assert_array_equal(module.apply(variables, X), trained)  # the same kernel


@pytest.mark.slow
def test_the_critic_with_spectral_norm_and_stddev_is_the_same_on_eight_devices():
    critic = dcgan.Critic((4, 8), spectral_norm=True, minibatch_stddev=True)
    x, keys = X[..., :1], jax.random.split(KEY, 8)
    variables = jax.jit(critic.init)(KEY, x)

    def score(x, keys):
        return critic.apply(variables, x, keys=keys, train=True, mutable="batch_stats")

    y, stats = jax.pmap(score, DATA_AXIS, out_axes=(0, None))(x[:, None], keys[:, None])
    assert_trees_close((y[:, 0], stats), jax.jit(score)(x, keys), **SUMS)
    plain_critic = dcgan.Critic((4, 8))
    shapes = jax.eval_shape(lambda: plain_critic.init(KEY, x))
    assert "batch_stats" not in shapes
    assert shapes["params"].keys() == variables["params"].keys()  # a checkpoint fits both
