"""The transformers: sizes, adaLN-zero, long skips, positions, normalised queries and keys."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.models import positions
from genjax.models import transformer_settings as sizes
from genjax.models.transformer import Block, SelfAttention, TimeEmbedder, Transformer

pytestmark = pytest.mark.heavy

KEY = jax.random.key(0)
TINY = Transformer(2, 16, 2, 2)
Z = jax.random.normal(KEY, (2, 4, 8, 3))
T = jnp.array([0.2, 0.7])


def spread(variables, scale=0.3):
    """Random parameters, so that no zero hides a part."""
    leaves, tree = jax.tree.flatten(variables)
    rng = np.random.default_rng(0)
    return tree.unflatten([jnp.float32(scale * rng.normal(size=a.shape)) for a in leaves])


def apply(network, variables, *inputs, **more):
    """The value of a program that runs once."""
    fast = {"xla_backend_optimization_level": 0}
    return jax.jit(lambda v: network.apply(v, *inputs, **more), compiler_options=fast)(variables)


def variables_of(network, *inputs, **more):
    """Random variables, drawn without running the network."""
    return spread(jax.eval_shape(lambda: network.init(KEY, *inputs, **more)))


def millions(network, shape):
    variables = jax.eval_shape(lambda: network.init(KEY, jnp.zeros((1, *shape)), jnp.zeros(1)))
    return sum(a.size for a in jax.tree.leaves(variables)) / 1e6


@pytest.mark.parametrize(
    ("size", "published"),
    [(sizes.SMALL, 33), (sizes.BASE, 130), (sizes.LARGE, 458), (sizes.EXTRA_LARGE, 675)],
)
def test_dit_has_its_published_sizes(size, published):
    # Peebles & Xie 2023, table 4: with a variance per latent, 1,000 classes.
    network = Transformer(2, **size, classes=1000, out_channels=8)
    assert round(millions(network, (32, 32, 4))) == published


@pytest.mark.parametrize(
    ("size", "start", "published"), [(sizes.BASE, 4, 131), (sizes.LARGE, 8, 459)]
)
def test_jit_has_its_published_sizes(size, start, published):
    # Li & He 2025, table 7.
    jit = {"jit": True, "bottleneck": 128, "context": 32, "context_start": start}
    assert round(millions(Transformer(16, **size, classes=1000, **jit), (256, 256, 3))) == published


@pytest.mark.parametrize("jit", [False, True])
def test_a_block_starts_as_the_identity(jit):
    x, c, block = jax.random.normal(KEY, (2, 5, 16)), jax.random.normal(KEY, (2, 16)), Block(2, jit)
    variables = jax.jit(lambda: block.init(KEY, x, c, None, None))()
    np.testing.assert_array_equal(apply(block, variables, x, c, None, None), x)
    assert np.abs(apply(block, spread(variables), x, c, None, None) - x).max() > 0.1


def test_sine_positions_are_the_formula_of_the_authors_code():
    found = positions.sine_positions(3, 5, 16)
    omega = 1 / 10000 ** (np.arange(4, dtype=np.float64) / 4)
    for i, place in enumerate(found):
        row, column = divmod(i, 5)
        parts = [f(at * omega) for at in (column, row) for f in (np.sin, np.cos)]
        np.testing.assert_allclose(place, np.concatenate(parts), atol=1e-6)


def test_a_turned_query_and_key_know_their_distance_alone():
    q, k = jax.random.normal(KEY, (2, 1, 1, 1, 16))
    angles = positions.rotary_angles(6, 7, 16).reshape(6, 7, 8)

    def score(of_query, of_key):
        turned = [positions.rotate(a, angles[at][None]) for a, at in ((q, of_query), (k, of_key))]
        return float((turned[0] * turned[1]).sum())

    here = score((1, 2), (3, 1))
    for shift in ((0, 1), (2, 0), (2, 4)):
        moved = [tuple(np.add(at, shift)) for at in ((1, 2), (3, 1))]
        assert score(*moved) == pytest.approx(here, abs=1e-5)
    assert abs(score((1, 2), (2, 1)) - here) > 0.01
    assert abs(score((1, 2), (3, 2)) - here) > 0.01
    long = positions.rotate(jnp.tile(q, (1, 42, 1, 1)), angles.reshape(42, 8))
    np.testing.assert_allclose(np.linalg.norm(long, axis=-1), np.linalg.norm(q), rtol=1e-5)


def test_positions_need_multiples_of_four_features():
    for place in (positions.sine_positions, positions.rotary_angles):
        with pytest.raises(ValueError, match="multiples of 4 features: 6"):
            place(2, 2, 6)


def test_normalised_queries_and_keys_have_no_length():
    x = jax.random.normal(KEY, (2, 5, 16))

    def change(normalize):
        module = SelfAttention(2, normalize)
        variables = module.init(KEY, x)
        longer = jax.tree.map(lambda a: a, variables)
        kernel = longer["params"]["qkv"]["kernel"]
        longer["params"]["qkv"]["kernel"] = kernel.at[:, :32].multiply(30)  # of q and k
        return np.abs(module.apply(longer, x) - module.apply(variables, x)).max()

    assert change(True) < 1e-4
    assert change(False) > 0.1


def test_long_skips_join_the_first_block_and_the_last():
    network = replace(TINY, depth=4, skips=True)
    variables = variables_of(network, Z, T)
    params = variables["params"]
    keep = jnp.concatenate([jnp.eye(16), jnp.zeros((16, 16))])
    zero = jnp.zeros(16)
    for name in ("skip_2", "skip_3"):
        params[name] = {"kernel": keep, "bias": zero}
    plain = replace(network, skips=False)
    without = {"params": {k: v for k, v in params.items() if not k.startswith("skip")}}
    expected = apply(plain, without, Z, T)
    np.testing.assert_allclose(apply(network, variables, Z, T), expected, rtol=1e-5, atol=1e-5)
    # The last block on the output of the first alone: a network of these two.
    params["skip_3"]["kernel"] = jnp.concatenate([jnp.zeros((16, 16)), jnp.eye(16)])
    two = {**without["params"], "block_1": params["block_3"]}
    two = {"params": {k: v for k, v in two.items() if k not in ("block_2", "block_3")}}
    expected = apply(replace(plain, depth=2), two, Z, T)
    np.testing.assert_allclose(apply(network, variables, Z, T), expected, rtol=1e-5, atol=1e-5)


def test_a_patch_of_the_prediction_lies_where_its_token_does():
    # With blocks that are the identity a pixel reaches no other patch than its own.
    network = replace(TINY, positions="learned")
    variables = jax.jit(lambda: network.init(KEY, Z, T))()
    variables["params"]["out"] = spread(variables["params"]["out"])

    def pixel(z):
        return network.apply(variables, z, T)[1, 3, 5, 0]

    reach = np.abs(jax.jit(jax.grad(pixel))(Z)).sum(-1)
    expected = np.zeros((2, 4, 8), bool)
    expected[1, 2:4, 4:6] = True
    np.testing.assert_array_equal(reach > 0, expected)


def test_the_second_time_counts_and_is_asked_for():
    network = replace(TINY, spans=True)
    variables = variables_of(network, Z, T, span=T)
    near, far = (apply(network, variables, Z, T, span=jnp.full(2, s)) for s in (0.1, 0.9))
    assert np.abs(near - far).max() > 1e-3
    for one, span in ((network, None), (TINY, T)):
        with pytest.raises(ValueError, match="a span is for a network with `spans`"):
            one.init(KEY, Z, T, span=span)


def test_a_transformer_in_bfloat16_keeps_float32_parameters_and_predictions():
    network = replace(TINY, jit=True, classes=3, bottleneck=4, context=2)
    label = jnp.array([0, 3])
    variables = variables_of(network, Z, T)
    coarse = replace(network, dtype=jnp.bfloat16)
    kept = jax.tree.leaves(jax.eval_shape(lambda: coarse.init(KEY, Z, T)))
    assert {a.dtype for a in kept} == {np.dtype("float32")}
    fine, rough = (apply(n, variables, Z, T, label) for n in (network, coarse))
    assert rough.dtype == np.float32
    assert 1e-4 < np.linalg.norm(rough - fine) / np.linalg.norm(fine) < 0.05


def test_remat_changes_neither_parameters_nor_values():
    variables = variables_of(TINY, Z, T)
    again = replace(TINY, remat=True)
    assert jax.tree.structure(variables_of(again, Z, T)) == jax.tree.structure(variables)
    here, there = (apply(network, variables, Z, T) for network in (again, TINY))
    np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"patch": 3}, r"patches of 3 need sides divisible by it, not \(4, 8\)"),
        ({"heads": 3}, "16 features do not divide into 3 heads"),
        ({"heads": 8, "jit": True}, "into 8 heads of a multiple of 4"),
        ({"positions": "sines"}, "not 'sines'"),
        ({"skips": True, "context": 1, "context_start": 1, "classes": 2}, "from the first block"),
    ],
)
def test_settings_that_do_not_fit_raise(changes, match):
    with pytest.raises(ValueError, match=match):
        jax.eval_shape(lambda: replace(TINY, **changes).init(KEY, Z, T))


def test_the_embedding_of_times_is_smooth_at_scale_one():
    def steepest(scale):
        module = TimeEmbedder(16, scale)
        variables = module.init(KEY, T)
        t = jnp.linspace(0, 1, 2001)
        embed = jax.jit(lambda t: jax.jvp(lambda t: module.apply(variables, t), (t,), (t**0,))[1])
        slope = embed(t)
        return np.abs(slope).max()

    assert steepest(1.0) < 0.1
    assert steepest(1000.0) > 1
