"""The very deep VAE: its size, its bound, what its temperature and its grids do."""

import itertools
from functools import partial
from math import erf

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import vdvae
from genjax.data import ImageSpec
from genjax.losses import vae
from genjax.losses.likelihoods import discretized_logistic_mixture_nll
from genjax.models import logistic_mixture, top_down
from genjax.models.top_down_settings import TopDownSettings
from genjax.train.state import TrainState

pytestmark = pytest.mark.heavy

SMALL = {"channels": 4, "bottleneck": 3, "mixture": 2}
DEEP = TopDownSettings(
    **SMALL, latent=2, pooling=(2,), encoder_blocks=(0, 1), decoder_blocks=(1, 2)
)
# Two numbers of noise per image of one grey pixel: integrals over them are sums over a grid.
PIXEL = {**SMALL, "latent": 1, "pooling": (), "encoder_blocks": (1,), "decoder_blocks": (2,)}


def random(params, seed=0, scale=1.0):
    """Parameters without a zero, so that the priors depend on what is above them."""
    leaves, tree = jax.tree.flatten(params)
    rng = np.random.default_rng(seed)
    drawn = [scale * rng.normal(size=x.shape) / max(1, x.shape[-1]) ** 0.5 for x in leaves]
    return jax.tree.unflatten(tree, [jnp.asarray(x, jnp.float32) for x in drawn])


def state_of(params):
    return TrainState(jnp.zeros((), jnp.int32), {"vae": params}, {"vae": ()}, {}, {"vae": params})


def deep(classes=None, shape=(4, 4, 1)):
    model = DEEP.top_down(shape, classes)
    return model, random(jax.eval_shape(model.init, jax.random.key(0)), scale=0.6)


def test_what_blocks_add_starts_small_by_the_root_of_the_depth():
    # Four blocks of latents; two residual blocks of the encoder and the one before its pooling.
    how = {"outputs": 4, "channels": 64, "bottleneck": 32, "latent": 32, "pooling": (2,)}
    network = top_down.TopDownVAE((4, 4), encoder_blocks=(0, 2), decoder_blocks=(1, 3), **how)
    size = jnp.zeros((1, network.size))
    params = network.init(jax.random.key(0), size, jnp.zeros((1, 4, 4, 1)))["params"]

    def spread(*names, inputs):  # over that of PyTorch's default, 1 / (3 · inputs) in variance
        found = params
        for name in names:
            found = found[name]
        if "kernel" not in found:  # of a bottleneck: its last layer
            found = found[max(name for name in found if name.startswith("Projection"))]
        return float(found["kernel"].std() * (3 * inputs) ** 0.5)

    # Of 2,048 weights: the deviation of a uniform number is right to 1.4 %.
    for i in range(4):
        assert spread(f"down_{i}", "latents", inputs=32) == pytest.approx(4**-0.5, rel=0.06)
        last = spread(f"down_{i}", "residual", inputs=32)
        assert last == pytest.approx(4**-0.5, rel=0.06)
        assert spread(f"down_{i}", "prior", inputs=32) == 0
        assert spread(f"down_{i}", "posterior", inputs=32) > 0.9
    for i in range(3):
        assert spread(f"up_{i}", inputs=32) == pytest.approx(3**-0.5, rel=0.06)
    assert spread("out", inputs=64) == pytest.approx(1, rel=0.1)


def test_what_goes_down_has_the_dtype_of_the_computation():
    how = {"outputs": 2, "channels": 4, "bottleneck": 3, "latent": 2, "pooling": (2,)}
    network = top_down.TopDownVAE(
        (4, 4), encoder_blocks=(0, 1), decoder_blocks=(1, 1), dtype=jnp.bfloat16, **how
    )
    noise, x = jnp.zeros((1, network.size)), jnp.zeros((1, 4, 4, 1))
    params = network.init(jax.random.key(0), noise, x)

    def run(params):
        found, seen = network.apply(params, noise, x, capture_intermediates=True)
        return found[0], [seen["intermediates"][f"down_{i}"]["__call__"][0][0] for i in (0, 1)]

    found, down = jax.eval_shape(run, params)
    assert found.dtype == jnp.float32
    assert [h.dtype for h in down] == [jnp.bfloat16, jnp.bfloat16]
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def images(n, shape, seed=3):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape)).astype(np.uint8)


def test_the_cifar10_network_has_the_size_of_the_papers_code():
    # Layer by layer from the authors' enc_blocks and dec_blocks, of width 384, 96 within, z 16.
    def layers(*widths, pixels=1):
        sizes = [1, pixels, pixels, 1]
        return sum(
            k * a * b + b for k, (a, b) in zip(sizes, itertools.pairwise(widths), strict=True)
        )

    def block(a, b, side):
        return layers(a, 96, 96, 96, b, pixels=9 if side > 2 else 1)

    up = {32: 11 + 1, 16: 6 + 1, 8: 6 + 1, 4: 3 + 1, 1: 3}
    down = {1: 1, 4: 1 + 2, 8: 1 + 5, 16: 1 + 10, 32: 1 + 21}
    count = 9 * 3 * 384 + 384 + sum(n * block(384, 384, side) for side, n in up.items())
    for side, n in down.items():
        prior, posterior = block(384, 2 * 16 + 384, side), block(2 * 384, 2 * 16, side)
        count += n * (prior + posterior + (16 * 384 + 384) + block(384, 384, side))
        count += side * side * 384
    count += 2 * 384 + 384 * 100 + 100
    family = vdvae.build(vdvae.PAPER, ImageSpec((32, 32, 3), 10, 50_000))
    params, _ = jax.eval_shape(lambda key: family.init(key, None), jax.random.key(0))
    assert sum(x.size for x in jax.tree.leaves(params)) == count
    assert round(count / 1e6) == 39  # Child 2021, table 2


def test_one_block_is_the_plain_vae_with_the_same_bound():
    config = vdvae.Config(**{**PIXEL, "latent": 3, "decoder_blocks": (1,)})
    shape, n = (2, 2, 1), 5
    family = vdvae.build(config, ImageSpec(shape, 0, 10))
    params = random(jax.eval_shape(lambda key: family.init(key, None)[0]["vae"], jax.random.key(0)))
    last = params["params"]["down_0"]["prior"]["Projection_3"]
    last |= jax.tree.map(jnp.zeros_like, last)  # as it starts: the prior is N(0, I)
    keys, image = jax.random.split(jax.random.key(2), n), images(n, shape)
    loss = jax.jit(lambda params: family.game["vae"].loss(params, None, keys, {"image": image}))
    value, aux = loss({"vae": params})
    model = config.top_down(shape, None)

    def encode(x):
        _, (layer,) = model.pixels(params, jnp.zeros((n, 12)), x, None)
        return tuple(a.reshape(n, 12) for a in layer.posterior)

    def decode(z):
        return logistic_mixture.floored(model.network.apply(params, z)[0], 1, 2)

    def nll(parameters, x):
        return discretized_logistic_mixture_nll(parameters, x, low=-1.0)

    plain = jax.jit(lambda x: vae.elbo(encode, decode, x, keys, nll=nll))(image / 127.5 - 1)
    np.testing.assert_allclose(aux.metrics["nll"], plain.nll.mean(), rtol=1e-5)
    np.testing.assert_allclose(aux.metrics["kl"], plain.kl.mean(), rtol=1e-5)
    np.testing.assert_allclose(value, plain.loss().mean() / 4, rtol=1e-5)
    assert plain.kl.min() > 0.01


@pytest.mark.slow
def test_the_bound_lies_above_the_integral_and_importance_samples_reach_it():
    config, copies = vdvae.Config(**PIXEL), 1000
    family = vdvae.build(config, ImageSpec((1, 1, 1), 0, 10))
    shapes = jax.eval_shape(lambda key: family.init(key, None)[0]["vae"], jax.random.key(0))
    state = state_of(random(shapes, seed=2))
    line = np.linspace(-7, 7, 141)
    grid = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2).astype(np.float32)
    network = config.top_down((1, 1, 1), None).network
    numbers = jax.jit(
        lambda grid: logistic_mixture.floored(network.apply(state.params["vae"], grid)[0], 1, 2)
    )(grid)
    weight = np.exp(-0.5 * (grid**2).sum(1)) / (2 * np.pi) * (line[1] - line[0]) ** 2
    assert weight.sum() == pytest.approx(1, abs=1e-6)

    def probability(value):
        x = jnp.full((len(grid), 1, 1, 1), value / 127.5 - 1)
        found = nll(numbers, x)
        return float(np.sum(weight * np.exp(-np.asarray(found, np.float64))))

    nll = jax.jit(partial(discretized_logistic_mixture_nll, low=-1.0))
    validate, measure = jax.jit(family.validate), jax.jit(family.measure.scores)
    for value in (40, 200):
        exact = -np.log2(probability(value))  # one dimension: bits of the image
        batch = {"image": np.full((copies, 1, 1, 1), value, np.uint8)}
        keys = jax.random.split(jax.random.key(value), copies)
        bound = np.asarray(validate(state, keys, batch)["negative_elbo"])
        found = {k: np.asarray(v) for k, v in measure(state, keys, batch).items()}
        error = 5 * bound.std() / copies**0.5
        assert bound.mean() - error > exact
        # Each of the copies averages 100 weights, whose mean is p(x): without bias in p, above it
        # in −log p, and between the two bounds.
        p = 2 ** -found["negative_log_likelihood"].astype(np.float64)
        assert abs(p.mean() / 2**-exact - 1) < 5 * p.std() / copies**0.5 / p.mean() < 0.1
        assert exact < found["negative_log_likelihood"].mean() < bound.mean()
        # One draw of log q/p in place of the KL terms is right on average.
        drawn = found["negative_elbo"]
        assert abs(drawn.mean() - bound.mean()) < error + 5 * drawn.std() / copies**0.5


def test_temperature_0_is_deterministic_and_others_scale_the_noise():
    spec = ImageSpec((4, 4, 1), 0, 10)
    cold, half, usual = (
        vdvae.build(vdvae.Config(**vars(DEEP), temperature=t), spec) for t in (0.0, 0.5, 1.0)
    )
    _, params = deep()
    state, size = state_of(params), DEEP.top_down(spec.shape, None).network.size
    z = jax.random.normal(jax.random.key(5), (2, size))

    @jax.jit
    def drawn(z):
        given = ((cold, z), (cold, z + 1), (half, 2 * z), (usual, z))
        return [family.generate(state, None, noise, None) for family, noise in given]

    still, other, halves, whole = drawn(z)
    np.testing.assert_array_equal(still, other)
    np.testing.assert_allclose(still[0], still[1], atol=1e-6)
    assert np.abs(whole[0] - whole[1]).max() > 0.01
    np.testing.assert_array_equal(halves, whole)
    assert cold.encode is None  # all codes would lead to one image


@pytest.mark.slow
@pytest.mark.parametrize("classes", [None, 3])
def test_codes_lead_back_to_the_posteriors_means_at_any_temperature(classes):
    model, params = deep(classes)
    label = None if classes is None else jnp.array([0, 2])
    config = vdvae.Config(**vars(DEEP), temperature=0.5, classes=classes is not None)
    family, state = vdvae.build(config, ImageSpec(model.shape, 3, 10)), state_of(params)
    assert (family.encode is None) == (classes is not None)  # `encode` is given no labels

    @jax.jit
    def both_ways(image):
        if classes is None:
            code = family.encode(state, image)
        else:
            code = family.invert(state, None, image, label)
        still = jnp.zeros_like(code)
        seen, layers = model.pixels(params, still, image / 127.5 - 1, label)
        expected = logistic_mixture.likeliest(seen, 1, DEEP.mixture)
        return family.generate(state, None, code, label), expected, layers

    back, expected, layers = both_ways(images(2, model.shape))
    np.testing.assert_allclose(back, expected, atol=1e-4)
    assert all(np.abs(layer.z - layer.prior[0]).max() > 1e-3 for layer in layers)


def test_a_block_sees_the_latents_above_it_alone():
    model, params = deep()
    network = model.network
    assert network.grids == ((2, 2, 2), (2, 2, 2), (4, 4, 2))
    x, still = jnp.asarray(images(1, model.shape) / 127.5 - 1), jnp.zeros((1, network.size))
    assert network.size == 8 + 8 + 32
    changed = still.at[0, 8].set(1.0)  # the first number of the second block
    apply = jax.jit(network.apply)
    for image in (None, x):
        (_, before), (_, after) = apply(params, still, image), apply(params, changed, image)
        for i, (a, b) in enumerate(zip(before, after, strict=True)):
            same = [np.array_equal(m, n) for m, n in zip(a.prior, b.prior, strict=True)]
            assert all(same) if i <= 1 else not any(same)
            assert (a.posterior is None) == (image is None)
        assert np.array_equal(before[0].z, after[0].z)
        assert not np.array_equal(before[1].z, after[1].z)


def test_grids_are_added_from_coarse_to_fine():
    model, params = deep()
    z = jax.random.normal(jax.random.key(6), (2, model.network.size))
    path = jax.jit(lambda z: model.coarse_to_fine(params, z, None))(z)
    image = jax.jit(lambda z: model.image(params, z, None))
    assert path.shape == (2, 2, *model.shape)
    np.testing.assert_allclose(path[:, -1], image(z), atol=1e-6)
    np.testing.assert_allclose(path[:, 0], image(z.at[:, 16:].set(0.0)), atol=1e-6)
    assert np.abs(path[:, 0] - path[:, 1]).max() > 1e-3


@pytest.mark.slow
def test_the_class_changes_every_grid_and_none_is_a_class_of_its_own():
    model, params = deep(classes=2)
    z = jnp.zeros((4, model.network.size))
    image = jax.jit(lambda label: model.image(params, z, label))
    found = image(jnp.array([0, 1, 2, 2]))
    np.testing.assert_array_equal(found[2], found[3])
    np.testing.assert_allclose(image(None)[0], found[2], atol=1e-6)
    assert all(np.abs(found[i] - found[j]).max() > 1e-3 for i, j in ((0, 1), (0, 2), (1, 2)))
    plain, other = deep()
    with pytest.raises(ValueError, match="a label needs a network with `classes`"):
        plain.image(other, z[:, : plain.network.size], jnp.array([0, 1, 0, 1]))


def test_a_bottleneck_against_numpy():
    x = np.random.default_rng(7).normal(size=(2, 1, 1, 4))
    block = top_down.Bottleneck(5, 3, spatial=False)
    params = random(jax.eval_shape(block.init, jax.random.key(0), x.astype(np.float32)))
    h = x.reshape(2, 4)
    for i in range(4):
        layer = params["params"][f"Projection_{i}"]
        gelu = h * (1 + np.vectorize(erf)(h / 2**0.5)) / 2
        h = gelu @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"])
    found = block.apply(params, x.astype(np.float32))
    np.testing.assert_allclose(found.reshape(2, 5), h, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_what_is_added_starts_small_by_the_root_of_the_depth():
    model = TopDownSettings(
        channels=64, bottleneck=64, latent=64, pooling=(2,), encoder_blocks=(4, 4),
        decoder_blocks=(15, 1),
    ).top_down((4, 4, 1), None)  # fmt: skip
    shapes = jax.eval_shape(model.init, jax.random.key(0))["params"]
    assert sum(name.startswith("up_") for name in shapes) == 9  # one before the pooling
    block = top_down.TopDownBlock(latent=64, width=64, depth=16)
    h = jnp.zeros((1, 2, 2, 64))
    params = jax.jit(block.init)(jax.random.key(1), h, h, h)["params"]
    usual = (1 / (3 * 64)) ** 0.5  # of PyTorch's layers of 64 inputs
    for layer, share in (
        (params["latents"], 1 / 4),
        (params["residual"]["Projection_3"], 1 / 4),
        (params["posterior"]["Projection_3"], 1),
        (params["residual"]["Projection_0"], 1),
    ):
        assert layer["kernel"].std() == pytest.approx(share * usual, rel=0.05)
    assert not params["prior"]["Projection_3"]["kernel"].any()


def test_pooling_and_repeating():
    x = np.arange(24.0).reshape(1, 4, 6, 1)
    np.testing.assert_array_equal(
        top_down.pooled(jnp.asarray(x), 2)[0, :, :, 0],
        x.reshape(2, 2, 3, 2).mean((1, 3)),
    )
    expected = x.repeat(3, 1).repeat(3, 2)
    np.testing.assert_array_equal(top_down.unpooled(jnp.asarray(x), 3), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sides": (8, 6)}, "divisible by 4, not 8x6"),
        (
            {"decoder_blocks": (1, 1)},
            "2 poolings need 3 numbers of blocks each way, not 3 up and 2",
        ),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    given = {"sides": (8, 8), "outputs": 3, "pooling": (2, 2), "encoder_blocks": (1, 1, 1)}
    network = top_down.TopDownVAE(**{**given, "decoder_blocks": (1, 1, 1), **options})
    with pytest.raises(ValueError, match=message):
        _ = network.size
