"""The spatial autoencoder and the patch critic against PyTorch: names, shapes, values of arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.models.kl_autoencoder import (
    Decoder,
    Encoder,
    KLAutoencoder,
    restored,
    standardized,
)
from genjax.models.patch_critic import PatchCritic
from tests.models.test_transformer_against_torch import linear, nested, spread

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.heavy

KEY = jax.random.key(0)
LDM = {"channels": 128, "multipliers": (1, 2, 4, 4), "blocks": 2, "latent": 4}  # its kl-f8
# Sums of up to 2,304 float32 numbers of order one, in another order, through some 30 layers.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def block_names(ours, theirs, skip):
    names = {}
    for i in (0, 1):
        names |= linear(f"{ours}/conv_{i}", f"{theirs}.conv{i + 1}")
        names |= linear(f"{ours}/norm_{i}", f"{theirs}.norm{i + 1}", "scale")
    return names | (linear(f"{ours}/skip", f"{theirs}.conv_shortcut") if skip else {})


def middle_names(part):
    theirs = f"{part}.mid_block"
    attention = f"{theirs}.attentions.0"
    qkv = [f"{attention}.to_{name}" for name in "qkv"]
    return {
        **block_names("mid_block_0", f"{theirs}.resnets.0", False),
        **block_names("mid_block_1", f"{theirs}.resnets.1", False),
        **linear("mid_attention/GroupNorm_0", f"{attention}.group_norm", "scale"),
        "mid_attention/qkv/kernel": [f"{name}.weight" for name in qkv],
        "mid_attention/qkv/bias": [f"{name}.bias" for name in qkv],
        **linear("mid_attention/out", f"{attention}.to_out.0"),
        **linear("conv_in", f"{part}.conv_in"),
        **linear("conv_out", f"{part}.conv_out"),
        **linear("norm_out", f"{part}.conv_norm_out", "scale"),
    }


def encoder_names(multipliers, blocks):
    """{our name: diffusers', or three of them side by side}."""
    names = {**middle_names("encoder"), **linear("quantize", "quant_conv")}
    for i, width in enumerate(multipliers):
        place = f"encoder.down_blocks.{i}"
        for j in range(blocks):
            skip = j == 0 and i > 0 and width != multipliers[i - 1]
            names |= block_names(f"level_{i}_block_{j}", f"{place}.resnets.{j}", skip)
        if i < len(multipliers) - 1:
            names |= linear(f"down_{i}", f"{place}.downsamplers.0.conv")
    return names


def decoder_names(multipliers, blocks):
    names = {**middle_names("decoder"), **linear("quantize", "post_quant_conv")}
    last = len(multipliers) - 1
    for i, width in enumerate(multipliers):
        place = f"decoder.up_blocks.{last - i}"
        for j in range(blocks + 1):
            skip = j == 0 and i < last and width != multipliers[i + 1]
            names |= block_names(f"level_{i}_block_{j}", f"{place}.resnets.{j}", skip)
        if i:
            names |= linear(f"up_{i}", f"{place}.upsamplers.0.conv")
    return names


def converted(names, state):
    """Our parameters from the arrays of a PyTorch network."""
    found = {}
    for ours, theirs in names.items():
        a = np.concatenate([state[name].numpy() for name in np.ravel(theirs)])
        if a.ndim == 4:
            a = a.transpose(2, 3, 1, 0)
            # A convolution of one pixel is a matrix here.
            a = a[0, 0] if a.shape[:2] == (1, 1) else a
        elif "kernel" in ours:
            a = a.T
        found[ours] = a
    return {"params": nested(found)}


def theirs(channels, multipliers, blocks, latent):
    diffusers = pytest.importorskip("diffusers")
    n = len(multipliers)
    return diffusers.AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * n,
        up_block_types=["UpDecoderBlock2D"] * n,
        block_out_channels=[channels * m for m in multipliers],
        layers_per_block=blocks,
        latent_channels=latent,
    )


def test_values_are_those_of_diffusers_at_the_same_weights():
    sizes = {"channels": 128, "multipliers": (1, 2), "blocks": 1, "latent": 3}
    module = spread(theirs(**sizes))
    state, shape = module.state_dict(), (8, 12, 3)
    model = KLAutoencoder(Encoder(**sizes), Decoder(**sizes), shape)
    params = {
        "encoder": converted(encoder_names((1, 2), 1), state),
        "decoder": converted(decoder_names((1, 2), 1), state),
    }
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *shape)).astype(np.float32)
    z = rng.normal(size=(2, *model.latent)).astype(np.float32)
    with torch.no_grad():
        posterior = module.encode(torch.tensor(x.transpose(0, 3, 1, 2))).latent_dist
        image = module.decode(torch.tensor(z.transpose(0, 3, 1, 2))).sample
    mean, log_var = jax.jit(model.posterior)(params, x)
    decoded = jax.jit(model.image)(params, z)
    expected = [a.numpy().transpose(0, 2, 3, 1) for a in (posterior.mean, posterior.logvar, image)]
    for found, wanted in zip((mean, log_var, decoded), expected, strict=True):
        scale = np.abs(wanted).max()
        assert scale > 0.5
        np.testing.assert_allclose(found / scale, wanted / scale, **CLOSE)


def test_arrays_of_the_papers_autoencoder_are_those_of_diffusers_by_name_and_shape():
    with torch.device("meta"):
        state = theirs(**LDM).state_dict()
    used = set()
    for network, given, names in (
        (Encoder(**LDM), (256, 256, 3), encoder_names(LDM["multipliers"], 2)),
        (Decoder(**LDM), (32, 32, 4), decoder_names(LDM["multipliers"], 2)),
    ):
        params = jax.eval_shape(network.init, KEY, jnp.zeros((1, *given)))["params"]
        ours = {
            jax.tree_util.keystr(p, simple=True, separator="/"): a.shape
            for p, a in jax.tree.leaves_with_path(params)
        }
        expected = {}
        for name, those in names.items():
            shapes = [tuple(state[each].shape) for each in np.ravel(those)]
            rows, *rest = (sum(s[0] for s in shapes), *shapes[0][1:])
            if len(rest) == 3:  # [D, C, kh, kw]
                shape = (*rest[1:], rest[0], rows)
                expected[name] = shape[2:] if rest[1:] == [1, 1] else shape
            else:
                expected[name] = (rows, *rest)[::-1]
        assert ours == expected
        used |= {each for those in names.values() for each in np.ravel(those)}
    assert used == state.keys()
    assert sum(a.numel() for a in state.values()) == 83_653_863  # that of Stable Diffusion


def torch_critic(channels, layers):
    """PatchGAN as the authors of VQGAN build it."""
    nn = torch.nn
    parts = [nn.Conv2d(3, channels, 4, 2, 1), nn.LeakyReLU(0.2)]
    for i in range(1, layers + 1):
        widths = channels * min(2 ** (i - 1), 8), channels * min(2**i, 8)
        parts += [nn.Conv2d(*widths, 4, 2 if i < layers else 1, 1, bias=False)]
        parts += [nn.BatchNorm2d(widths[1]), nn.LeakyReLU(0.2)]
    return nn.Sequential(*parts, nn.Conv2d(channels * min(2**layers, 8), 1, 4, 1, 1))


def test_the_patch_critic_has_the_values_and_size_of_the_authors():
    module = spread(torch_critic(64, 3)).train()
    state = module.state_dict()
    names = {"Conv_0/kernel": "0.weight", "Conv_0/bias": "0.bias"}
    for i, place in enumerate((2, 5, 8), 1):
        names |= {f"Conv_{i}/kernel": f"{place}.weight"}
        names |= linear(f"BatchNorm_{i - 1}", f"{place + 1}", "scale")
    names |= linear("Conv_4", "11")
    variables = converted(names, state)
    x = np.random.default_rng(0).normal(size=(2, 32, 40, 3)).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.tensor(x.transpose(0, 3, 1, 2)))[:, 0].numpy()
    network = PatchCritic()
    found = jax.jit(lambda v, x: network.apply(v, x, mutable=["batch_stats"])[0])(variables, x)
    assert found.shape == (2, 2, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    params = jax.eval_shape(network.init, KEY, jnp.zeros((1, 256, 256, 3)))["params"]
    count = sum(p.numel() for p in module.parameters())
    assert sum(x.size for x in jax.tree.leaves(params)) == count == 2_765_633


def test_an_image_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match=r"3 halvings need sides from 24, not \(16, 16\)"):
        jax.eval_shape(PatchCritic().init, KEY, jnp.zeros((1, 16, 16, 3)))
    with pytest.raises(ValueError, match=r"4 levels need sides divisible by 8, not \(12, 16\)"):
        jax.eval_shape(Encoder().init, KEY, jnp.zeros((1, 12, 16, 3)))


def test_standardized_latents_have_mean_0_and_variance_1_and_come_back():
    rng = np.random.default_rng(0)
    z = rng.normal([3.0, -1.0], [0.1, 5.0], (64, 4, 4, 2)).astype(np.float32)
    moments = {"mean": z.mean((0, 1, 2)), "square": (z**2).mean((0, 1, 2))}
    found = standardized(moments, z)
    np.testing.assert_allclose(found.mean((0, 1, 2)), 0, atol=1e-3)
    np.testing.assert_allclose(found.var((0, 1, 2)), 1, atol=1e-3)
    np.testing.assert_allclose(restored(moments, found), z, rtol=1e-4, atol=1e-4)
    flat = standardized({"mean": jnp.ones(2), "square": jnp.ones(2)}, jnp.ones((1, 2, 2, 2)))
    assert (np.asarray(flat) == 0).all()  # of a channel that does not vary
