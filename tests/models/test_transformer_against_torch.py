"""The transformers against diffusers' DiT and a twin of JiT: names, shapes and values of arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.models import transformer_settings as sizes
from genjax.models.transformer import Transformer

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.heavy

# Sums of some dozen float32 numbers of order one, in another order, through two blocks.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}
KEY = jax.random.key(0)


def weights(network, shape):
    """{name: shape and dtype} of the parameters of a network."""
    z = jnp.zeros((1, *shape))
    params = jax.eval_shape(lambda: network.init(KEY, z, jnp.zeros(1)))["params"]
    return {jax.tree_util.keystr(p, simple=True, separator="/"): a
            for p, a in jax.tree.leaves_with_path(params)}  # fmt: skip


def nested(flat):
    """{"a/b": x} as {"a": {"b": x}}."""
    tree = {}
    for name, value in flat.items():
        *path, last = name.split("/")
        inner = tree
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = jnp.asarray(value)
    return tree


def linear(ours, theirs, weight="kernel"):
    return {f"{ours}/{weight}": f"{theirs}.weight", f"{ours}/bias": f"{theirs}.bias"}


def jit_names(depth):
    """{our name: the authors'} of JiT's arrays."""
    names = {
        "bottleneck/kernel": "x_embedder.proj1.weight",
        **linear("embed", "x_embedder.proj2"),
        **linear("time/Dense_0", "t_embedder.mlp.0"),
        **linear("time/Dense_1", "t_embedder.mlp.2"),
        "class/Embed_0/embedding": "y_embedder.embedding_table.weight",
        "context": "in_context_posemb",
        "norm_out/scale": "final_layer.norm_final.weight",
        **linear("modulation", "final_layer.adaLN_modulation.1"),
        **linear("out", "final_layer.linear"),
    }
    for i in range(depth):
        ours, theirs = f"block_{i}", f"blocks.{i}"
        names |= {
            f"{ours}/norm_0/scale": f"{theirs}.norm1.weight",
            f"{ours}/norm_1/scale": f"{theirs}.norm2.weight",
            f"{ours}/attention/q_norm/scale": f"{theirs}.attn.q_norm.weight",
            f"{ours}/attention/k_norm/scale": f"{theirs}.attn.k_norm.weight",
            **linear(f"{ours}/attention/qkv", f"{theirs}.attn.qkv"),
            **linear(f"{ours}/attention/out", f"{theirs}.attn.proj"),
            **linear(f"{ours}/modulation", f"{theirs}.adaLN_modulation.1"),
            **linear(f"{ours}/mlp_in", f"{theirs}.mlp.w12"),
            **linear(f"{ours}/mlp_out", f"{theirs}.mlp.w3"),
        }
    return names


def dit_names(depth):
    """{our name: diffusers', or three of them side by side} of DiT's arrays."""
    emb = "transformer_blocks.0.norm1.emb"
    names = {
        **linear("embed", "pos_embed.proj"),
        **linear("time/Dense_0", f"{emb}.timestep_embedder.linear_1"),
        **linear("time/Dense_1", f"{emb}.timestep_embedder.linear_2"),
        "class/Embed_0/embedding": f"{emb}.class_embedder.embedding_table.weight",
        **linear("modulation", "proj_out_1"),
        **linear("out", "proj_out_2"),
    }
    for i in range(depth):
        ours, theirs = f"block_{i}", f"transformer_blocks.{i}"
        qkv = [f"{theirs}.attn1.to_{name}" for name in "qkv"]
        names |= {
            f"{ours}/attention/qkv/kernel": [f"{name}.weight" for name in qkv],
            f"{ours}/attention/qkv/bias": [f"{name}.bias" for name in qkv],
            **linear(f"{ours}/attention/out", f"{theirs}.attn1.to_out.0"),
            **linear(f"{ours}/modulation", f"{theirs}.norm1.linear"),
            **linear(f"{ours}/mlp_in", f"{theirs}.ff.net.0.proj"),
            **linear(f"{ours}/mlp_out", f"{theirs}.ff.net.2"),
        }
    return names


def converted(names, state, heads):
    """Our parameters from the arrays of a PyTorch network."""
    found = {}
    for ours, theirs in names.items():
        of = [theirs] if isinstance(theirs, str) else theirs
        a = np.concatenate([state[name].numpy() for name in of])
        if a.ndim == 4:  # a convolution over a patch: rows, columns, channels
            a = a.transpose(0, 2, 3, 1).reshape(len(a), -1)
        if ours.startswith(("time/Dense_0/kernel", "span/Dense_0/kernel")):
            a = np.roll(a, a.shape[1] // 2, axis=1)  # cosines come first
        if "q_norm" in ours or "k_norm" in ours:
            a = a[pairs_first(len(a))]
        if "attention/qkv" in ours and any("q_norm" in name for name in names):
            parts = a.reshape(3, heads, -1, *a.shape[1:])
            order = pairs_first(parts.shape[2])
            a = np.concatenate([parts[:2, :, order], parts[2:]]).reshape(a.shape)
        found[ours] = (
            a.reshape(a.shape[-2:]) if ours == "context" else a.T if "kernel" in ours else a
        )
    return {"params": nested(found)}


def pairs_first(n):
    """Where features lie that are turned in pairs of neighbours: the first of each, the second."""
    return np.arange(n).reshape(-1, 2).T.ravel()


def shapes_of(names, state):
    """{our name: shape} as the names of a PyTorch network say."""
    found = {}
    for ours, theirs in names.items():
        of = [theirs] if isinstance(theirs, str) else theirs
        rows, *rest = state[of[0]].shape
        if len(rest) == 3 and "kernel" in ours:
            rest = [int(np.prod(rest))]
        shape = (len(of) * rows, *rest)
        found[ours] = shape[::-1] if "kernel" in ours else shape[1:] if ours == "context" else shape
    return found


def spread(module):
    """Random arrays throughout, so that no zero hides a part."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(0.2 * torch.randn(p.shape, generator=generator) + (p == 1).float())
    return module.eval()


def assert_same(network, variables, module, t, call):
    """The values of both on two images of two classes."""
    z = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    label = np.array([1, 4])
    with torch.no_grad():
        expected = call(module, torch.tensor(z.transpose(0, 3, 1, 2)), torch.tensor(label))
    expected = expected.numpy().transpose(0, 2, 3, 1)
    found = jax.jit(network.apply)(variables, z, jnp.asarray(t), label)
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(found, expected, **CLOSE)


def dit(**settings):
    diffusers = pytest.importorskip("diffusers")
    settings = {"norm_eps": 1e-6, **settings}
    module = diffusers.DiTTransformer2DModel(**settings)
    for block in module.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0  # as in the authors' code
    return module


def test_dit_has_the_values_of_diffusers():
    module = spread(
        dit(num_attention_heads=2, attention_head_dim=8, in_channels=3, num_layers=2,
            sample_size=8, patch_size=2, num_embeds_ada_norm=5)
    )  # fmt: skip
    for block in module.transformer_blocks[1:]:  # the authors' code has but one embedding
        block.norm1.emb = module.transformer_blocks[0].norm1.emb
    network = Transformer(2, 16, 2, 2, classes=5, time_scale=1000.0)
    variables = converted(dit_names(2), module.state_dict(), 2)
    assert_same(network, variables, module, [0.137, 0.992],
                lambda m, z, y: m(z, torch.tensor([137.0, 992.0]), y).sample)  # fmt: skip


def test_jit_has_the_values_of_its_authors_formulas():
    from tests.models.jit_torch import JiT

    module = spread(JiT(8, 2, 3, 5, 16, 3, 2, 4, 3, 1))
    network = Transformer(
        2, 16, 3, 2, jit=True, bottleneck=4, context=3, context_start=1, classes=5
    )
    variables = converted(jit_names(3), module.state_dict(), 2)
    t = [0.137, 0.992]
    assert_same(network, variables, module, t, lambda m, z, y: m(z, torch.tensor(t), y))


def test_arrays_of_dit_s_2_are_those_of_diffusers_by_name_and_shape():
    with torch.device("meta"):
        module = dit(num_attention_heads=6, attention_head_dim=64, num_layers=12, out_channels=8)
    names, state = dit_names(12), module.state_dict()
    network = Transformer(2, **sizes.SMALL, classes=1000, out_channels=8, time_scale=1000.0)
    ours = {name: a.shape for name, a in weights(network, (32, 32, 4)).items()}
    assert shapes_of(names, state) == ours
    used = {name for theirs in names.values() for name in np.ravel(theirs)}
    # Each further block has a copy of the embeddings, and the positions are no parameter.
    assert all("norm1.emb" in name or name == "pos_embed.pos_embed" for name in state.keys() - used)


def test_arrays_of_jit_b_16_are_those_of_its_code_by_name_and_shape():
    from tests.models.jit_torch import JiT

    with torch.device("meta"):
        module = JiT(256, 16, 3, 1000, 768, 12, 12, 128, 32, 4)
    names, state = jit_names(12), module.state_dict()
    more = {"jit": True, "bottleneck": 128, "context": 32, "context_start": 4}
    network = Transformer(16, **sizes.BASE, classes=1000, **more)
    ours = {name: a.shape for name, a in weights(network, (256, 256, 3)).items()}
    assert shapes_of(names, state) == ours
    assert state.keys() - set(names.values()) == {"pos_embed"}
