"""The autoencoder of VQ-VAE against a twin of the authors' example in PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.models.vq_autoencoder import Decoder, Encoder

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.heavy

KEY = jax.random.key(0)
SIZES = {"channels": 8, "blocks": 2, "block_channels": 3, "latent": 5}


def residual(x, weights, blocks):
    """The stack of residual blocks, behind a convolution of 3x3."""
    conv = torch.nn.functional.conv2d
    x = conv(x, *weights["conv"], padding=1)
    for i in range(blocks):
        h = conv(x.relu(), *weights[f"block_{i}_conv_0"], padding=1).relu()
        x = x + conv(h, *weights[f"block_{i}_conv_1"])
    return x.relu()


def twin(network, params, x, halvings):
    """The network's values by PyTorch's convolutions."""
    weights = {}
    for name, layer in params["params"].items():
        kernel, bias = (torch.tensor(np.asarray(layer[n])) for n in ("kernel", "bias"))
        if kernel.ndim == 2:  # a linear layer per position
            kernel = kernel[None, None]
        kernel = kernel.permute(3, 2, 0, 1)
        if name.startswith("up"):  # [in, out, kh, kw], and reversed
            kernel = kernel.permute(1, 0, 2, 3).flip(2, 3)
        weights[name] = kernel.contiguous(), bias
    x = torch.tensor(x.transpose(0, 3, 1, 2))
    functional = torch.nn.functional
    if isinstance(network, Encoder):
        for i in range(halvings):
            x = functional.conv2d(x, *weights[f"down_{i}"], stride=2, padding=1).relu()
        x = functional.conv2d(residual(x, weights, network.blocks), *weights["latent_out"])
    else:
        x = residual(x, weights, network.blocks)
        for i in reversed(range(halvings)):
            x = functional.conv_transpose2d(x, *weights[f"up_{i}"], stride=2, padding=1)
            x = x.relu() if i else x
    return x.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("halvings", [1, 3])
@pytest.mark.parametrize("kind", [Encoder, Decoder])
def test_values_are_those_of_pytorch_at_the_same_weights(kind, halvings):
    shape = (16, 8, 3) if kind is Encoder else (16 >> halvings, 8 >> halvings, 5)
    network, rng = kind(**SIZES, halvings=halvings), np.random.default_rng(0)
    x = rng.normal(size=(2, *shape)).astype(np.float32)
    shapes = jax.eval_shape(network.init, KEY, x)
    params = jax.tree.map(lambda a: (0.3 * rng.normal(size=a.shape)).astype(np.float32), shapes)
    found = jax.jit(network.apply, compiler_options={"xla_backend_optimization_level": 0})(
        params, x
    )
    expected = twin(network, params, x, halvings)
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_arrays_at_the_size_of_the_authors_example():
    # 128 channels, two residual blocks of 32, vectors of 64: the widths of the published example.
    def kernels(network, shape):
        params = jax.eval_shape(network.init, KEY, jnp.zeros((1, *shape)))["params"]
        return {name: layer["kernel"].shape for name, layer in params.items()}

    blocks = {}
    for i in (0, 1):
        blocks |= {f"block_{i}_conv_0": (3, 3, 128, 32), f"block_{i}_conv_1": (32, 128)}
    assert kernels(Encoder(), (32, 32, 3)) == {
        "down_0": (4, 4, 3, 64),
        "down_1": (4, 4, 64, 128),
        "conv": (3, 3, 128, 128),
        "latent_out": (128, 64),
        **blocks,
    }
    assert kernels(Decoder(), (8, 8, 64)) == {
        "conv": (3, 3, 64, 128),
        "up_1": (4, 4, 128, 64),
        "up_0": (4, 4, 64, 3),
        **blocks,
    }


def test_sides_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match=r"sides divisible by 4, not \(8, 6\)"):
        jax.eval_shape(Encoder().init, KEY, jnp.zeros((1, 8, 6, 3)))


@pytest.mark.parametrize(("channels", "first"), [(1, 1), (2, 1), (3, 1), (8, 4)])
def test_next_to_the_image_there_are_half_as_many_channels_and_one_at_least(channels, first):
    sizes = {**SIZES, "channels": channels, "halvings": 2}
    encoder, decoder = Encoder(**sizes), Decoder(**sizes)
    down = jax.eval_shape(encoder.init, KEY, jnp.zeros((1, 8, 8, 3)))["params"]
    up = jax.eval_shape(decoder.init, KEY, jnp.zeros((1, 2, 2, 5)))["params"]
    assert down["down_0"]["kernel"].shape == (4, 4, 3, first)
    assert up["up_1"]["bias"].shape == (first,)
    assert up["up_0"]["bias"].shape == (3,)
