"""EDM's SongUNet: the published sizes and arrays, and the values of a second implementation."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import ndtri
from scipy.stats import kstest, norm

from genjax.models import resampling, song_unet
from genjax.models.song_unet import SongBlock, SongUNet, fourier_features

pytestmark = pytest.mark.heavy

KEY = jax.random.key(0)
CIFAR = {"classes": 10, "augment": 9}


def compiled(f):
    """jit with little optimisation, for programs that run once."""
    return jax.jit(f, compiler_options={"xla_backend_optimization_level": 0})


def arrays(module, size):
    """Shapes of the parameters by path."""
    x = jnp.zeros((2, size, size, 3))
    found = jax.eval_shape(lambda: module.init(KEY, x, jnp.zeros(2)))["params"]
    leaves = jax.tree_util.tree_leaves_with_path(found)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def count(module, size=32):
    return sum(a.size for a in arrays(module, size).values())


def test_the_networks_have_the_published_sizes():
    # Karras et al. 2022, table 7: 56 million; 55.7 of DDPM++ with classes and augmentation.
    assert round(count(SongUNet(**CIFAR)) / 1e6, 1) == 55.7
    assert round(count(SongUNet(ncsnpp=True, **CIFAR)) / 1e6) == 56


@pytest.mark.parametrize("ncsnpp", [False, True])
def test_every_array_at_the_papers_size_has_the_published_name_and_shape(ncsnpp):
    torch = pytest.importorskip("torch")
    from tests.models import edm_twins as twins

    module = SongUNet(ncsnpp=ncsnpp, **CIFAR)
    found = {}
    for path, array in arrays(module, 32).items():
        name = twins.published_name(path, 32)
        blank = np.broadcast_to(np.float32(0), array.shape)
        found[name] = twins.published_layout(name, blank).shape
    expected = twins.Shapes()
    meta = partial(torch.empty, device="meta")
    noise, label = meta(2), torch.zeros(2, dtype=torch.long)
    frequencies = meta(128)
    settings = SimpleNamespace(**{k: getattr(module, k) for k in FIELDS}, out=3)
    x = meta((2, 3, 32, 32))
    twins.song(expected, x, noise, label, meta((2, 9)), s=settings, frequencies=frequencies)
    assert found == expected


def test_blocks_between_levels_have_the_width_of_the_level_that_they_come_from():
    module = SongUNet(channels=8, multipliers=(1, 2, 3), blocks=1, attention=())
    shapes = jax.eval_shape(module.init, KEY, jnp.zeros((1, 8, 8, 1)), jnp.zeros(1))["params"]
    found = {
        name: layers["conv1"]["bias"].shape[0]
        for name, layers in shapes.items()
        if name.endswith(("_up", "_down"))
    }
    assert found == {"enc_1_down": 8, "enc_2_down": 16, "dec_1_up": 24, "dec_0_up": 16}


FIELDS = ("channels", "multipliers", "blocks", "attention", "ncsnpp", "classes", "augment")
SMALL = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention": (4,), "classes": 3}


def small_inputs(augment=True):
    x = jax.random.normal(KEY, (3, 8, 8, 2))
    noise, label = jnp.array([-1.5, 0.1, 1.0]), jnp.array([0, 2, 1])
    return x, noise, label, jax.random.normal(KEY, (3, 4)) if augment else None


def drawn(ncsnpp):
    """A small network, and weights without zeros and inputs of it."""
    module = SongUNet(ncsnpp=ncsnpp, augment=4, dropout=0.5, **SMALL)
    inputs = small_inputs()
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(module.init, KEY, *inputs)
    params = jax.tree.map(
        lambda a: jnp.asarray(0.2 * rng.normal(size=a.shape), jnp.float32), shapes
    )

    return module, params, inputs


BOTH = [
    pytest.param(False, id="ddpm++"),
    pytest.param(True, id="ncsn++", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("ncsnpp", BOTH)
def test_outputs_are_those_of_a_second_implementation(ncsnpp):
    torch = pytest.importorskip("torch")
    from tests.models import edm_twins as twins

    module, params, inputs = drawn(ncsnpp)
    y = compiled(module.apply)(params, *inputs)
    leaves = jax.tree_util.tree_leaves_with_path(params["params"])
    weights = twins.Given()
    for path, array in leaves:
        name = twins.published_name(jax.tree_util.keystr(path, simple=True, separator="/"), 8)
        layout = twins.published_layout(name, array)
        weights[name] = torch.tensor(layout.copy())
    x, noise, label, augment = (torch.from_numpy(np.array(a)) for a in inputs)
    frequencies = np.array(16 * ndtri((jnp.arange(8) + 0.5) / 8))
    settings = SimpleNamespace(**{k: getattr(module, k) for k in FIELDS}, out=2)
    expected = twins.song(
        weights,
        x.permute(0, 3, 1, 2),
        noise,
        label.long(),
        augment,
        s=settings,
        frequencies=frequencies,
    )
    expected = expected.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("ncsnpp", [False, True])
def test_it_depends_on_all_of_its_inputs_and_every_parameter(ncsnpp):
    module, params, (x, noise, label, augment) = drawn(ncsnpp)
    rows = jnp.array([0, 0, 0])

    @compiled
    def evaluate(params, keys, *inputs):
        def loss(p):
            y = module.apply(p, *inputs)
            return jnp.square(y).sum(), y

        slopes, y = jax.grad(loss, has_aux=True)(params)
        return y, slopes, module.apply(params, *inputs, keys=keys)

    x, keys = x[rows], jax.random.split(KEY, 3)
    same = (noise[rows], label[rows], augment[rows])

    def changed(i, value):
        inputs = list(same)
        inputs[i] = inputs[i].at[1].set(value)
        return evaluate(params, keys, x, *inputs)

    y, slopes, dropped = changed(0, noise[1])
    assert y.shape == x.shape
    np.testing.assert_allclose(y[2], y[0], rtol=1e-5, atol=1e-5)
    for path, slope in jax.tree.leaves_with_path(slopes):
        assert np.abs(slope).max() > 0, path
    assert np.abs(dropped[2] - dropped[0]).max() > 0.01
    for i, value in ((0, noise[1]), (1, 2), (2, augment[1])):
        y = changed(i, value)[0]
        assert np.abs(y[1] - y[0]).max() > 1e-3


@pytest.mark.slow
def test_a_new_network_is_near_zero_and_no_class_and_no_augmentation_are_zeros():
    module = SongUNet(4, (1,), 1, (), classes=3, augment=4)
    x, noise, label, _ = small_inputs()

    @compiled
    def evaluate(key):
        params = module.init(key, x, noise)
        at_first = module.apply(params, x, noise, label)
        slopes = jax.grad(lambda p: jnp.sum(module.apply(p, x, noise)))(params)
        later = jax.tree.map(lambda a: a + 0.1, params)
        without = module.apply(later, x, noise)
        zeros = module.apply(later, x, noise, jnp.full(3, 3), jnp.zeros((3, 4)))
        return at_first, slopes["params"]["enc_0_conv"]["kernel"], without, zeros

    at_first, slope, without, zeros = evaluate(KEY)
    assert 0 < np.abs(at_first).max() < 1e-3
    assert np.abs(slope).max() > 0  # exact zeros would let no gradient through
    np.testing.assert_array_equal(without, zeros)


@pytest.mark.slow
def test_a_block_keeps_the_variance_at_initialisation():
    x, emb = jax.random.normal(KEY, (4, 8, 8, 64)), jax.random.normal(KEY, (4, 8))
    for how in ({}, {"attention": True}):
        y, _ = compiled(SongBlock(64, **how).init_with_output)(KEY, x, emb, None)
        # The branches are near 0, so that a sum over √2 halves the variance; attention once more.
        assert np.var(y) == pytest.approx(0.5 ** (1 + len(how)), rel=0.05)


@pytest.mark.parametrize("taps", [(1, 1), (1, 3, 3, 1), (1, 5, 10, 10, 5, 1)])
def test_resampling_is_that_of_a_second_implementation(taps):
    torch = pytest.importorskip("torch")
    from tests.models import edm_twins as twins

    x = np.random.default_rng(0).normal(size=(2, 6, 4, 3)).astype(np.float32)
    image = torch.from_numpy(x).permute(0, 3, 1, 2)
    for how, change in (("down", resampling.halved), ("up", resampling.doubled)):
        expected = twins.resample(image, how, taps).permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(change(jnp.asarray(x), taps), expected, atol=1e-6)


@pytest.mark.parametrize("taps", [(1, 1), (1, 3, 3, 1)])
def test_doubling_is_the_transpose_of_halving(taps):
    x, y = (
        jax.random.normal(k, (1, n, n, 2))
        for k, n in zip(jax.random.split(KEY), (8, 4), strict=True)
    )
    inner = jnp.vdot(resampling.halved(x, taps), y)
    assert 4 * inner == pytest.approx(float(jnp.vdot(x, resampling.doubled(y, taps))), rel=1e-5)


def test_fourier_features_are_those_of_normal_frequencies():
    noise = jnp.array([0.0, 1e-3])
    found = fourier_features(noise, 512, scale=16.0)
    np.testing.assert_array_equal(found[0], [0.0] * 256 + [1.0] * 256)
    omega = np.arctan2(found[1, :256], found[1, 256:]) / (2 * np.pi * 1e-3)
    assert kstest(omega, norm(scale=16).cdf).pvalue > 0.99
    with pytest.raises(ValueError, match="even number of features, not 5"):
        fourier_features(noise, 5)


def test_what_does_not_fit_raises():
    with pytest.raises(ValueError, match=r"divisible by 4, not \(30, 28\)"):
        SongUNet().init(KEY, jnp.zeros((1, 30, 28, 1)), jnp.zeros(1))
    with pytest.raises(ValueError, match="classes"):
        SongUNet(8, (1,)).init(KEY, jnp.zeros((1, 8, 8, 1)), jnp.zeros(1), jnp.zeros(1, int))


def test_odd_widths_are_normalised_by_as_many_groups_as_divide_them():
    x = jnp.zeros((1, 8, 8, 1))
    out = jax.eval_shape(lambda: SongUNet(36, (1, 4), 1).init_with_output(KEY, x, jnp.zeros(1))[0])
    assert out.shape == x.shape
    assert song_unet._norm(144, "n", {}).groups == 24
