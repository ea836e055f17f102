"""The networks have the published sizes, and accept any divisible image size."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.models import autoencoder, dcgan, gan, mlp, transformer, unet
from genjax.over_batch import DATA_AXIS

pytestmark = pytest.mark.heavy

KEY = jax.random.key(0)


def parameters(module, *inputs, **arguments):
    """The number of trainable parameters."""
    shapes = [jnp.zeros(s) for s in inputs]
    variables = jax.eval_shape(lambda: module.init(KEY, *shapes, **arguments))
    return sum(a.size for a in jax.tree.leaves(variables["params"]))


def outputs(module, *inputs, **arguments):
    """The output's shapes from float inputs of these shapes."""
    shapes = [jnp.zeros(s) for s in inputs]
    out = jax.eval_shape(lambda: module.init_with_output(KEY, *shapes, **arguments)[0])
    return jax.tree.map(lambda a: a.shape, out)


def dense(*widths):
    return sum((a + 1) * b for a, b in pairwise(widths))


def test_dense_networks_have_their_published_sizes():
    x, z = (2, 28, 28, 1), (2, 100)
    assert parameters(autoencoder.DenseEncoder(), x) == dense(784, 64, 16)
    assert parameters(autoencoder.DenseDecoder(), (2, 16)) == dense(16, 64, 784)
    vae = autoencoder.GaussianEncoder(autoencoder.DenseEncoder((400,), 2 * 20))
    assert parameters(vae, x) == dense(784, 400, 40)
    assert parameters(gan.Generator(), z) == dense(100, 256, 784)
    assert parameters(gan.Discriminator(), x) == dense(784, 256, 1)


def test_dcgan_has_the_size_of_the_tutorial():
    # TensorFlow's tutorial: no biases in the generator, scale and bias in its BatchNorms.
    first = 100 * 7 * 7 * 256 + 2 * 7 * 7 * 256
    convolutions = 25 * (256 * 128 + 128 * 64 + 64 * 1) + 2 * (128 + 64)
    assert parameters(dcgan.Generator(), (2, 100)) == first + convolutions
    critic = 25 * 1 * 64 + 64 + 25 * 64 * 128 + 128 + dense(7 * 7 * 128, 1)
    assert parameters(dcgan.Critic(), (2, 28, 28, 1)) == critic


def test_the_cifar10_unet_has_the_size_of_ddpm():
    ddpm = unet.UNet(128, (1, 2, 2, 2), 2, attention=(16,), head_features=256, groups=32)
    # Ho et al. 2020, appendix B: 35.7 million parameters.
    assert round(parameters(ddpm, (2, 32, 32, 3), (2,)) / 1e6, 1) == 35.7


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (64, 48, 3)])
def test_any_divisible_image_size_is_accepted(shape):
    x, z = (2, *shape), (2, 10)
    assert outputs(autoencoder.DenseEncoder((30,), 7), x) == (2, 7)
    assert outputs(autoencoder.DenseDecoder(shape), z) == x
    assert outputs(autoencoder.ConvEncoder((4, 8), 7), x) == (2, 7)
    assert outputs(autoencoder.ConvDecoder(shape, (8, 4)), z) == x
    halves = autoencoder.GaussianEncoder(autoencoder.ConvEncoder((4, 8), 14))
    assert outputs(halves, x) == ((2, 7), (2, 7))
    assert outputs(gan.Generator(shape), z) == x
    assert outputs(gan.Discriminator(), x) == (2,)
    assert outputs(dcgan.Generator(shape, (8, 4, 4)), z, train=True) == x
    assert outputs(dcgan.Critic((4, 8)), x) == (2,)
    assert outputs(unet.UNet(8, (1, 2)), x, (2,)) == x
    assert outputs(unet.UNet(8, (1, 2), out_channels=2 * shape[2]), x, (2,)) == (
        *x[:3],
        2 * shape[2],
    )


def test_an_indivisible_image_size_raises():
    x = jnp.zeros((1, 30, 28, 1))
    with pytest.raises(ValueError, match=r"divisible by 4, not \(30, 28\)"):
        unet.UNet(8, (1, 1, 1)).init(KEY, x, jnp.zeros(1))
    with pytest.raises(ValueError, match=r"divisible by 4, not \(30, 28\)"):
        autoencoder.ConvEncoder((8, 8)).init(KEY, x)
    with pytest.raises(ValueError, match=r"divisible by 8, not \(28, 28\)"):
        autoencoder.ConvDecoder((28, 28, 1), (8, 8, 8)).init(KEY, jnp.zeros((1, 4)))
    with pytest.raises(ValueError, match=r"divisible by 4, not \(30, 28\)"):
        dcgan.Generator((30, 28, 1)).init(KEY, jnp.zeros((1, 4)))
    with pytest.raises(ValueError, match=r"even last axis, not shape \(1, 7\)"):
        autoencoder.GaussianEncoder(autoencoder.DenseEncoder((), 7)).init(KEY, x)


def compiled(f):
    """jit with little optimisation, for programs that run once."""
    return jax.jit(f, compiler_options={"xla_backend_optimization_level": 0})


def random_variables(module, *inputs):
    """Variables with no zero among them, so that no path through the network is blocked."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(module.init, KEY, *inputs)
    variables = jax.tree.map(lambda a: jnp.asarray(0.3 * rng.normal(size=a.shape)), shapes)
    statistics = jax.tree.map(jnp.abs, variables.get("batch_stats", {}))  # no variance below 0
    return {**variables, "batch_stats": statistics}


DENOISERS = [
    (unet.UNet(8, (1, 2), attention=(2,), groups=4, classes=3, dropout=0.5), (4, 4, 1)),
    (mlp.MLP(16, 2, classes=3, dropout=0.5), (12,)),
    (
        transformer.Transformer(
            2, 8, 2, 2, positions="learned", skips=True, classes=3, dropout=0.5
        ),
        (4, 4, 1),
    ),
    (
        transformer.Transformer(
            2, 8, 2, 2, jit=True, bottleneck=3, context=2, classes=3, dropout=0.5
        ),
        (4, 4, 1),
    ),
]


@pytest.mark.parametrize(("module", "shape"), DENOISERS)
def test_a_denoiser_depends_on_time_class_keys_and_every_parameter(module, shape):
    z = jnp.broadcast_to(jax.random.normal(KEY, shape), (4, *shape))
    t = jnp.array([0.1, 0.9, 0.1, 0.1])
    label = jnp.array([0, 0, 2, 0])
    keys = jax.random.split(KEY, 4)
    variables = random_variables(module, z, t)

    @compiled
    def evaluate(variables):
        def loss(v):
            y = module.apply(v, z, t, label)
            return jnp.square(y).sum(), y

        slopes, y = jax.grad(loss, has_aux=True)(variables)
        return slopes, y, module.apply(variables, z, t, label, keys=keys)

    slopes, y, dropped = evaluate(variables)
    assert y.shape == z.shape
    np.testing.assert_allclose(y[3], y[0], rtol=1e-6)
    assert np.abs(y[1] - y[0]).max() > 0.01
    assert np.abs(y[2] - y[0]).max() > 0.01
    assert np.abs(dropped[3] - dropped[0]).max() > 0.01
    for path, slope in jax.tree.leaves_with_path(slopes):
        assert np.abs(slope).max() > 0, path


@pytest.mark.parametrize(("module", "shape"), DENOISERS)
def test_a_denoiser_is_zero_at_initialisation(module, shape):
    z = jax.random.normal(KEY, (1, *shape))
    y, _ = compiled(module.init_with_output)(KEY, z, jnp.ones(1))
    np.testing.assert_array_equal(y, jnp.zeros_like(z))


def unet_gradient(**settings):
    """Of a small U-Net: prediction, gradient, and the bytes stored between forward and backward."""
    network = unet.UNet(8, (1, 2), attention=(4,), groups=4, dropout=0.5, **settings)
    z = jax.random.normal(KEY, (4, 8, 8, 1))
    variables = random_variables(unet.UNet(8, (1, 2), attention=(4,), groups=4), z, jnp.ones(4))

    def predict(v):
        return network.apply(v, z, jnp.ones(4), keys=jax.random.split(KEY, 4))

    def gradient(v):
        y, back = jax.vjp(predict, v)
        return y, back(y - z)[0]

    stored = jax.eval_shape(lambda v: jax.vjp(predict, v)[1], variables)
    return *compiled(gradient)(variables), sum(x.size * 4 for x in jax.tree.leaves(stored))


def far(a, b):
    """‖a − b‖ / ‖b‖ over all leaves."""
    a, b = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)]) for tree in (a, b))
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@pytest.mark.slow
def test_remat_stores_fewer_activations_and_changes_no_gradient():
    y, slopes, stored = unet_gradient()
    y_again, slopes_again, stored_with_remat = unet_gradient(remat=True)
    assert jax.tree.structure(slopes_again) == jax.tree.structure(slopes)
    assert far(y_again, y) < 1e-5
    assert far(slopes_again, slopes) < 1e-5
    assert stored_with_remat < 0.5 * stored


@pytest.mark.slow
def test_a_unet_in_bfloat16_keeps_float32_parameters_gradients_and_predictions():
    y, slopes, _ = unet_gradient()
    coarse_y, coarse_slopes, _ = unet_gradient(dtype=jnp.bfloat16)
    assert {a.dtype for a in jax.tree.leaves((coarse_y, coarse_slopes))} == {np.dtype("float32")}
    assert 1e-4 < far(coarse_y, y) < 0.05
    assert far(coarse_slopes, slopes) < 0.1


def test_a_label_without_classes_raises():
    for module, shape in [(unet.UNet(8), (1, 8, 8, 1)), (mlp.MLP(8), (1, 4))]:
        with pytest.raises(ValueError, match="classes"):
            outputs(module, shape, (1,), (1,))


def test_generators_end_in_tanh_and_the_vae_splits_its_encoders_code():
    z = 100 * jax.random.normal(KEY, (2, 10))
    for module in (gan.Generator(), dcgan.Generator(widths=(8, 4, 4))):
        images = compiled(module.apply)(random_variables(module, z), z)
        assert 0.5 < np.abs(images).max() <= 1
    encoder = autoencoder.DenseEncoder((30,), 8)
    gaussian = autoencoder.GaussianEncoder(encoder)
    x = jax.random.normal(KEY, (2, 4, 4, 1))
    variables = random_variables(gaussian, x)
    code = encoder.apply({"params": variables["params"]["network"]}, x)
    np.testing.assert_array_equal(jnp.concatenate(gaussian.apply(variables, x), -1), code)


def test_dcgan_on_eight_devices_is_dcgan_on_one():
    generator, critic = dcgan.Generator((8, 8, 1), (8, 4, 4)), dcgan.Critic((4, 8))
    z = jax.random.normal(KEY, (8, 10))
    keys = jax.random.split(KEY, 8)
    g = random_variables(generator, z)
    c = random_variables(critic, jnp.zeros((1, 8, 8, 1)))

    def score(z, keys):
        images, state = generator.apply(g, z, train=True, mutable="batch_stats")
        return critic.apply(c, images, keys=keys), state

    split = jax.pmap(score, DATA_AXIS, out_axes=(0, None))(z[:, None], keys[:, None])
    full = jax.jit(score)(z, keys)
    # BatchNorm of eight examples divides by small deviations.
    np.testing.assert_allclose(split[0][:, 0], full[0], rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), split[1], full[1])
