"""The prior over codes: what each logit sees, the cache of keys and values, and how it draws."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.models.causal_transformer import CausalTransformer, pick
from tests.models.test_transformer import spread

pytestmark = pytest.mark.heavy

# Two codebooks, so that six places share three positions.
NETWORK = CausalTransformer(7, 1, 3, levels=2, width=16, depth=2, heads=2, classes=3)
SIZE = NETWORK.length
RNG = np.random.default_rng(0)
CODES, LABEL = RNG.integers(0, 7, (3, SIZE)), jnp.array([0, 2, 1])
FAST = {"xla_backend_optimization_level": 0}


def variables(network, scale=0.3):
    zeros = jnp.zeros((1, network.length), jnp.int32)
    return spread(jax.eval_shape(network.init, jax.random.key(0), zeros), scale)


PARAMS = variables(NETWORK)
logits = jax.jit(lambda codes, label: NETWORK.apply(PARAMS, codes, label), compiler_options=FAST)


def test_a_logit_changes_with_every_code_before_it_and_with_no_other():
    start = np.asarray(logits(CODES, LABEL))
    for j in range(SIZE):
        other = CODES.copy()
        other[:, j] = (other[:, j] + 1) % 7
        changed = np.abs(np.asarray(logits(other, LABEL)) - start).max((0, 2))
        np.testing.assert_array_equal(changed[: j + 1], 0)
        assert (changed[j + 1 :] > 1e-3).all()


@pytest.mark.slow
def test_a_logit_has_a_gradient_by_the_code_before_it_and_by_no_other():
    network = CausalTransformer(4, 2, 2, width=8, depth=2, heads=2)
    params = variables(network)
    codes = jnp.array([[2, 0, 3, 1]])  # each once, so that each has a row of its own

    def value(rows):
        changed = {**params["params"], "embed": {"embedding": rows}}
        return network.apply({"params": changed}, codes)[0].sum(-1)

    rows = params["params"]["embed"]["embedding"]
    slopes = np.abs(np.asarray(jax.jit(jax.jacobian(value), compiler_options=FAST)(rows))).max(-1)
    seen = slopes[:, np.append(4, codes[0, :3])]  # the start, then the codes in their order
    np.testing.assert_array_equal(seen[np.triu_indices(4, 1)], 0)
    assert seen[np.tril_indices(4)].min() > 1e-4
    np.testing.assert_array_equal(slopes[:, codes[0, 3]], 0)  # the last is seen by none


def test_the_cache_gives_the_logits_of_the_whole_sequence():
    @partial(jax.jit, compiler_options=FAST)
    def step(cache, before, place):
        how = {"place": place, "mutable": ["cache"]}
        return NETWORK.apply({**PARAMS, "cache": cache}, before, LABEL, **how)

    whole, cache = np.asarray(logits(CODES, LABEL)), NETWORK.empty_cache(3)
    before = jnp.full(3, 5)  # in the place of a code before the first, and not looked at
    for i in range(SIZE):
        found, kept = step(cache, before, i)
        # Sums of some dozen float32 numbers of order one, in another order.
        np.testing.assert_allclose(found, whole[:, i], rtol=1e-4, atol=1e-5)
        assert jax.tree.structure(kept["cache"]) == jax.tree.structure(cache)
        cache, before = kept["cache"], jnp.asarray(CODES[:, i])


@pytest.mark.slow
@pytest.mark.parametrize("label", [None, 1])
def test_the_probabilities_of_all_sequences_sum_to_one(label):
    network = CausalTransformer(3, 2, 2, width=8, depth=1, heads=2, classes=2)
    params = variables(network, 0.5)
    every = jnp.array(list(itertools.product(range(3), repeat=4)))
    label = None if label is None else jnp.full(len(every), label)
    value = jax.jit(lambda codes: network.apply(params, codes, label), compiler_options=FAST)
    found = jax.nn.log_softmax(value(every))
    each = np.take_along_axis(np.asarray(found, np.float64), np.asarray(every)[..., None], 2)
    p = np.exp(each.sum((1, 2)))
    assert p.sum() == pytest.approx(1, rel=1e-5)
    assert p.max() > 3 / 81  # far from uniform


def test_class_and_place_count():
    same = np.zeros((3, SIZE), int)
    found = np.asarray(logits(same, jnp.array([0, 1, 3])))
    assert min(np.abs(found[0] - found[1]).max(), np.abs(found[0] - found[2]).max()) > 1e-2
    assert np.ptp(found, axis=1).max(-1).min() > 1e-2  # of the same codes everywhere
    np.testing.assert_allclose(logits(same, None), found[[2, 2, 2]], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_an_untrained_network_gives_every_code_the_same_probability():
    def untrained(key):
        return NETWORK.apply(NETWORK.init(key, CODES), CODES)

    found = jax.jit(untrained, compiler_options=FAST)(jax.random.key(0))
    np.testing.assert_array_equal(found, 0)


@pytest.mark.parametrize("how", [{"temperature": 0.5, "top_k": 3}, {"temperature": 0.0}])
def test_codes_are_drawn_one_by_one_from_the_logits_of_those_before(how):
    uniform = RNG.uniform(size=(3, SIZE)).astype(np.float32)

    def draw(uniform):
        return NETWORK.draw(PARAMS, uniform, LABEL, **how)

    codes = jax.jit(draw, compiler_options=FAST)(uniform)
    whole = logits(codes, LABEL)
    expected = [pick(whole[:, i], uniform[:, i], **how) for i in range(SIZE)]
    np.testing.assert_array_equal(codes, np.stack(expected, 1))
    if how.get("temperature") == 0:
        np.testing.assert_array_equal(codes, np.asarray(whole).argmax(-1))


def test_one_scan_draws_them_all():
    text = str(jax.make_jaxpr(lambda u: NETWORK.draw(PARAMS, u))(jnp.zeros((2, SIZE))))
    assert text.count("scan[") == 1
    assert f"length={SIZE}" in text
    assert "while[" not in text


L = np.array([0.3, -1.0, 2.0, 0.0, 1.2], np.float32)
GRID = (np.arange(20_000) + 0.5) / 20_000


@pytest.mark.parametrize(("temperature", "top_k"), [(0.7, None), (1.5, 3), (1.0, 9)])
def test_codes_have_the_probabilities_of_the_softmax_among_the_greatest(temperature, top_k):
    tiled = jnp.tile(L, (len(GRID), 1))
    found = pick(tiled, jnp.float32(GRID), temperature=temperature, top_k=top_k)
    weights = np.exp(np.float64(L) / temperature)
    if top_k is not None:
        weights[np.argsort(-L)[top_k:]] = 0
    shares = np.bincount(found, minlength=5) / len(GRID)
    np.testing.assert_allclose(shares, weights / weights.sum(), atol=2 / len(GRID))


@pytest.mark.parametrize("how", [{"temperature": 0.0}, {"temperature": 1e-30}, {"top_k": 1}])
def test_at_no_temperature_the_likeliest_code_is_drawn(how):
    given = jnp.float32(RNG.normal(size=(50, 9)))
    uniform = jnp.linspace(0, 1 - 2.0**-23, 50)  # both ends of what is drawn
    np.testing.assert_array_equal(pick(given, uniform, **how), given.argmax(-1))


def test_heads_that_do_not_divide_the_features_are_refused():
    network = CausalTransformer(3, 2, 2, width=12, heads=2)
    with pytest.raises(ValueError, match="12 features do not divide into 2 heads of a multiple"):
        jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 4), jnp.int32))
