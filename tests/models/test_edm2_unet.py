"""EDM2's network: published sizes and arrays, a second implementation's values, magnitudes."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax.models import magnitude_preserving as mp
from genjax.models.edm2_unet import EDM2Block, EDM2UNet
from genjax.train.optimizers import Optimizer

pytestmark = pytest.mark.heavy

KEY = jax.random.key(0)
FIELDS = ("channels", "multipliers", "blocks", "attention", "head_features", "classes")


def compiled(f):
    """jit with little optimisation, for programs that run once."""
    return jax.jit(f, compiler_options={"xla_backend_optimization_level": 0})


def arrays(module, shape):
    """Shapes of the parameters by path."""
    found = jax.eval_shape(lambda: module.init(KEY, jnp.zeros((1, *shape)), jnp.zeros(1)))
    leaves = jax.tree_util.tree_leaves_with_path(found["params"])
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def settings(module):
    return SimpleNamespace(**{name: getattr(module, name) for name in FIELDS})


@pytest.mark.parametrize(
    ("channels", "shape", "millions"),
    # Karras et al. 2024, table 2: of ImageNet-512, in latents, and ImageNet-64.
    [(128, (64, 64, 4), 125), (192, (64, 64, 3), 280)],
)
def test_the_networks_have_the_published_sizes(channels, shape, millions):
    found = arrays(EDM2UNet(channels, classes=1000), shape)
    count = sum(leaf.size for leaf in found.values())
    assert abs(count / 1e6 - millions) < 0.6


def test_every_array_at_the_papers_size_has_the_published_name_and_shape():
    torch = pytest.importorskip("torch")
    from tests.models import edm_twins as twins

    module = EDM2UNet(128, classes=1000)
    found = {}
    for path, array in arrays(module, (64, 64, 4)).items():
        name = twins.published_edm2_name(path, 64)
        blank = np.broadcast_to(np.float32(0), array.shape)
        found[name] = twins.published_layout(name, blank, 64).shape
    expected, meta = twins.Shapes(), partial(torch.empty, device="meta")
    label = torch.zeros(2, dtype=torch.long)
    twins.edm2(expected, meta((2, 4, 64, 64)), meta(2), label, s=settings(module))
    assert found == expected


@pytest.fixture(scope="module")
def small():
    """A small network, weights without zeros, its inputs, and a function to F and u."""
    module = EDM2UNet(8, (1, 2), 1, (4,), head_features=8, dropout=0.5, classes=3)
    x = jax.random.normal(KEY, (3, 8, 8, 2))
    inputs = x, jnp.array([-1.5, 0.1, 1.0]), jnp.array([0, 2, 1])
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(module.init, KEY, *inputs)
    params = jax.tree.map(lambda a: jnp.float32(rng.normal(size=a.shape)), shapes)

    @compiled
    def evaluate(params, *inputs, keys=None):
        u = module.apply(params, inputs[1], method=EDM2UNet.log_variance)
        return module.apply(params, *inputs, keys=keys), u

    return module, params, inputs, evaluate


def test_outputs_are_those_of_a_second_implementation(small):
    torch = pytest.importorskip("torch")
    from tests.models import edm_twins as twins

    module, params, inputs, evaluate = small
    weights = twins.Given()
    for path, array in jax.tree_util.tree_leaves_with_path(params["params"]):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        name = twins.published_edm2_name(name, 8)
        weights[name] = torch.tensor(twins.published_layout(name, array, 8).copy())
    x, noise, label = (torch.tensor(np.array(a)) for a in inputs)
    quantile, golden = torch.distributions.Normal(0.0, 1.0).icdf, (5**0.5 - 1) / 2
    places = [torch.arange(n) for n in (8, 128)]
    expected, u = twins.edm2(
        weights,
        x.permute(0, 3, 1, 2),
        noise,
        label.long(),
        s=settings(module),
        frequencies=[quantile((i + 0.5) / len(i)) for i in places],
        phases=[i * golden % 1 for i in places],
    )
    found, ours = evaluate(params, *inputs)
    expected = expected.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(ours, u.numpy(), atol=1e-4)


@pytest.mark.slow
def test_it_depends_on_all_of_its_inputs(small):
    _, params, (x, noise, label), evaluate = small
    rows = jnp.array([0, 0, 0])
    x, noises, labels = x[rows], noise.at[2].set(noise[0]), label[rows].at[1].set(2)
    y, u = evaluate(params, x, noise[rows], labels)
    dropped, _ = evaluate(params, x, noise[rows], labels, keys=jax.random.split(KEY, 3))
    np.testing.assert_allclose(y[2], y[0], rtol=1e-4, atol=1e-5)
    assert np.abs(y[1] - y[0]).max() > 0.01
    assert np.abs(dropped[2] - dropped[0]).max() > 0.01
    assert u[0] == u[1]
    y, u = evaluate(params, x, noises, label[rows])
    assert np.abs(y[1] - y[0]).max() > 0.01
    assert abs(u[1] - u[0]) > 0.01


@pytest.mark.slow
def test_no_class_is_zeros_and_the_output_starts_at_zero():
    module = EDM2UNet(4, (1,), 1, (), classes=3)
    x, noise = jax.random.normal(KEY, (2, 4, 4, 1)), jnp.array([-1.0, 1.0])

    @compiled
    def evaluate(key):
        params = module.init(key, x, noise)
        later = jax.tree.map(lambda a: a + 0.5, params)
        given = module.apply(later, x, noise, jnp.full(2, 3))
        return params, module.apply(params, x, noise), module.apply(later, x, noise), given

    params, first, without, none = evaluate(KEY)
    np.testing.assert_array_equal(first, jnp.zeros_like(x))
    np.testing.assert_array_equal(without, none)
    for leaf in jax.tree.leaves(params):
        expected = 0 if leaf.ndim == 0 else 1
        np.testing.assert_allclose(np.sqrt(np.mean(leaf**2)), expected, atol=0.02)


def rms(x):
    return float(jnp.sqrt(jnp.mean(jnp.square(x))))


def test_every_layer_keeps_the_magnitude():
    a, b = jax.random.normal(KEY, (2, 4000, 96))
    assert rms(mp.silu(a)) == pytest.approx(1, abs=0.01)
    for t in (0.3, 1.0):
        assert rms(mp.mixed(a, b, t)) == pytest.approx(1, abs=0.01)
        both = mp.concatenated(a, b[:, :32], t)
        assert rms(both) == pytest.approx(1, abs=0.01)
        # What each part contributes to a layer that sees both: t and 1 − t of their weight.
        shares = [float(jnp.sum(jnp.square(both[:, s]))) for s in (np.s_[:96], np.s_[96:])]
        assert shares[0] * t**2 == pytest.approx(shares[1] * (1 - t) ** 2, rel=0.02)
    assert rms(mp.fourier_features(jnp.linspace(-2, 2, 500), 256)) == pytest.approx(1, abs=0.02)
    assert rms(mp.normalized(5 * a, -1)) == pytest.approx(1, abs=1e-3)
    y, _ = mp.MPConv(64).init_with_output(KEY, a)
    assert rms(y) == pytest.approx(1, abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("how", [{}, {"attention": True}, {"decodes": True}])
def test_a_block_keeps_the_magnitude(how):
    x, emb = jax.random.normal(KEY, (4, 8, 8, 48)), jax.random.normal(KEY, (4, 16))
    module = EDM2Block(64, head_features=16, **how)
    y, _ = compiled(module.init_with_output)(KEY, x, emb, None)
    # Attention averages values, which makes them smaller: of its 0.3 little is left.
    least = 0.9 if how.get("attention") else 0.97
    assert least < rms(y) < 1.04


def test_a_layer_does_not_depend_on_the_size_of_its_weights():
    x = jax.random.normal(KEY, (5, 6))
    params = mp.MPConv(4).init(KEY, x)
    y = mp.MPConv(4).apply(params, x)
    larger = jax.tree.map(lambda a: a * 30, params)
    np.testing.assert_allclose(mp.MPConv(4).apply(larger, x), y, rtol=1e-3)
    np.testing.assert_allclose(mp.MPConv(4).apply(params, x, 0.5), y / 2, rtol=1e-5)


def test_weights_are_of_unit_magnitude_after_every_update():
    params = {"kernel": mp._unit_normal(KEY, (3, 3, 4, 2), jnp.float32), "gain": jnp.float32(0.5)}
    grads = jax.tree.map(jnp.ones_like, params)
    player = Optimizer().player(None, 0.1, project=mp.forced_normalization, b2=0.99)
    plain = Optimizer().transformation(0.1, b2=0.99)
    state, ours = player.optimizer.init(params), params
    assert jax.tree.structure(state) == jax.tree.structure(plain.init(params))
    for _ in range(2):
        moved = optax.apply_updates(ours, plain.update(grads, state, ours)[0])
        updates, state = player.optimizer.update(grads, state, ours)
        ours = optax.apply_updates(ours, updates)
        sizes = np.sqrt(np.mean(ours["kernel"] ** 2, axis=(0, 1, 2)))
        np.testing.assert_allclose(sizes, 1, atol=2e-4)
        # The direction is the optimizer's own, and scalars are not scaled.
        expected = mp.normalized(moved["kernel"], (0, 1, 2))
        np.testing.assert_allclose(ours["kernel"], expected, atol=1e-5)
        np.testing.assert_allclose(ours["gain"], moved["gain"], atol=1e-6)
    assert np.abs(moved["kernel"] - ours["kernel"]).max() > 1e-3


def test_zeros_have_a_finite_gradient():
    slope = jax.grad(lambda x: jnp.sum(mp.normalized(x, -1)))(jnp.zeros((2, 3)))
    assert np.isfinite(slope).all()


def test_what_does_not_fit_raises():
    x, noise = jnp.zeros((1, 30, 28, 1)), jnp.zeros(1)
    with pytest.raises(ValueError, match=r"divisible by 8, not \(30, 28\)"):
        EDM2UNet().init(KEY, x, noise)
    with pytest.raises(ValueError, match="no augmentation"):
        EDM2UNet().init(KEY, x, noise, None, jnp.zeros((1, 9)))
    block = EDM2Block(48, attention=True, head_features=32)
    with pytest.raises(ValueError, match="48 channels do not divide into heads of 32"):
        jax.eval_shape(lambda: block.init(KEY, x[:, :4, :4], noise[None], None))
