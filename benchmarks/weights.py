"""genjax's parameters under the names and in the shapes of the PyTorch twins."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.cases import ConvVae, Dcgan, LucidUNet, Network, UNet, Vae

Arrays = dict[str, np.ndarray]


def to_torch(network: Network, params: Any) -> Arrays:
    """{name in the twin's state dict: array} of all the parameters of all players."""
    match network:
        case Vae():
            return _vae(params["vae"])
        case ConvVae():
            return _conv_vae(network, params["vae"])
        case Dcgan():
            return _dcgan(network, params)
        case UNet():
            return dict(_unet(network, params["unet"]["params"]))
        case LucidUNet():
            return dict(_lucid(params["unet"]["params"]))


def _conv(name: str, layer: Any) -> Arrays:
    """HWIO to OIHW."""
    return _with_bias(name, layer["kernel"].transpose(3, 2, 0, 1), layer)


def _transposed(name: str, layer: Any, *, flip: bool) -> Arrays:
    """PyTorch's transposed kernel: rotated by 180 degrees, in order in, out; flip: not rotated."""
    kernel = layer["kernel"] if flip else layer["kernel"][::-1, ::-1]
    return _with_bias(name, kernel.transpose(2, 3, 0, 1), layer)


def _dense(name: str, layer: Any) -> Arrays:
    return _with_bias(name, layer["kernel"].T, layer)


def _with_bias(name: str, weight: np.ndarray, layer: Any) -> Arrays:
    return {f"{name}.weight": weight} | ({f"{name}.bias": layer["bias"]} if "bias" in layer else {})


def _norm(name: str, layer: Any) -> Arrays:
    return {f"{name}.weight": layer["scale"], f"{name}.bias": layer["bias"]}


def _vae(params: Any) -> Arrays:
    encoder, decoder = params["encoder"]["params"]["network"], params["decoder"]["params"]
    named: Arrays = {}
    for half, layers in (("encoder", encoder), ("decoder", decoder)):
        named |= _dense(f"{half}.0", layers["Dense_0"]) | _dense(f"{half}.2", layers["Dense_1"])
    return named


def _conv_vae(network: ConvVae, params: Any) -> Arrays:
    encoder, decoder = params["encoder"]["params"]["network"], params["decoder"]["params"]
    n = len(network.widths)
    h, w = network.shape[0] >> n, network.shape[1] >> n
    named: Arrays = {}
    for i in range(n):
        named |= _conv(f"encoder.{2 * i}", encoder[f"Conv_{i}"])
        named |= _transposed(f"decoder.{2 * i + 3}", decoder[f"ConvTranspose_{i}"], flip=False)
    named |= _dense(f"encoder.{2 * n + 1}", _rows_to_channels_first(encoder["Dense_0"], h, w))
    return named | _dense("decoder.0", _columns_to_channels_first(decoder["Dense_0"], h, w))


def _rows_to_channels_first(layer: Any, h: int, w: int, *, flip: bool = False) -> Any:
    kernel = layer["kernel"].reshape(h, w, -1, layer["kernel"].shape[1])
    kernel = kernel[::-1, ::-1] if flip else kernel
    return {
        "kernel": kernel.transpose(2, 0, 1, 3).reshape(layer["kernel"].shape),
        "bias": layer["bias"],
    }


def _columns_to_channels_first(layer: Any, h: int, w: int, *, flip: bool = False) -> Any:
    def order(a: np.ndarray) -> np.ndarray:
        image = a.reshape(*a.shape[:-1], h, w, -1)
        image = np.flip(image, (-3, -2)) if flip else image
        return np.moveaxis(image, -1, -3).reshape(a.shape)

    return {name: order(a) for name, a in layer.items()}


def _dcgan(network: Dcgan, params: Any) -> Arrays:
    """The layers of a twin whose images are rotated by 180 degrees.

    PyTorch puts the odd row of an uneven padding at the other end than "SAME" does: the twin's
    natural layers mirror ours.
    """
    generator, critic = params["generator"], params["critic"]["params"]
    doublings = len(network.widths) - 1
    h, w = network.shape[0] >> doublings, network.shape[1] >> doublings
    named = _dense(
        "generator.dense", _columns_to_channels_first(generator["Dense_0"], h, w, flip=True)
    )
    norm = _columns_to_channels_first(generator["BatchNorm_0"], h, w, flip=True)
    named |= _norm("generator.norms.0", norm)
    for i in range(doublings + 1):
        layer = generator[f"ConvTranspose_{i}"]
        named |= _transposed(f"generator.convs.{i}", layer, flip=True)
        if i < doublings:
            named |= _norm(f"generator.norms.{i + 1}", generator[f"BatchNorm_{i + 1}"])
    for i in range(doublings):
        kernel = critic[f"Conv_{i}"]["kernel"][::-1, ::-1]
        named |= _conv(f"critic.{3 * i}", critic[f"Conv_{i}"] | {"kernel": kernel})
    # Each of the critic's convolutions halves the image, upwards where it is odd.
    size = [-(-n // 2**doublings) for n in network.shape[:2]]
    last = _rows_to_channels_first(critic["Dense_0"], *size, flip=True)
    return named | _dense(f"critic.{3 * doublings + 1}", last)


def _unet(network: UNet, params: Any) -> Iterator[tuple[str, np.ndarray]]:
    """UNet2DModel's names, in the order in which genjax numbers its blocks."""
    levels = len(network.multipliers)
    with_attention = [network.shape[0] >> i in network.attention for i in range(levels)]
    blocks = [
        (f"down_blocks.{i}", j, with_attention[i])
        for i in range(levels)
        for j in range(network.blocks)
    ]
    blocks += [("mid_block", 0, True), ("mid_block", 1, False)]
    blocks += [
        (f"up_blocks.{i}", j, with_attention[levels - 1 - i])
        for i in range(levels)
        for j in range(network.blocks + 1)
    ]
    attentions = 0
    for number, (place, j, attends) in enumerate(blocks):
        yield from _residual(f"{place}.resnets.{j}", params[f"ResidualBlock_{number}"]).items()
        if attends:
            layer = params[f"Attention_{attentions}"]
            yield from _attention(f"{place}.attentions.{j}", layer).items()
            attentions += 1
    for i in range(levels - 1):
        yield from _conv(f"down_blocks.{i}.downsamplers.0.conv", params[f"down_{i}"]).items()
        up = params[f"up_{levels - 1 - i}"]
        yield from _conv(f"up_blocks.{i}.upsamplers.0.conv", up).items()
    for i in (0, 1):
        yield from _dense(f"time_embedding.linear_{i + 1}", params[f"Dense_{i}"]).items()
    yield from _conv("conv_in", params["conv_in"]).items()
    yield from _norm("conv_norm_out", params["GroupNorm_0"]).items()
    yield from _conv("conv_out", params["conv_out"]).items()


def _residual(name: str, block: Any) -> Arrays:
    named = _dense(f"{name}.time_emb_proj", block["Dense_0"])
    for i in (0, 1):
        named |= _norm(f"{name}.norm{i + 1}", block[f"GroupNorm_{i}"])
        named |= _conv(f"{name}.conv{i + 1}", block[f"Conv_{i}"])
    return named | (_conv(f"{name}.conv_shortcut", block["skip"]) if "skip" in block else {})


def _attention(name: str, layer: Any) -> Arrays:
    named = _norm(f"{name}.group_norm", layer["GroupNorm_0"])
    parts = zip(
        np.split(layer["qkv"]["kernel"], 3, -1), np.split(layer["qkv"]["bias"], 3), strict=True
    )
    for letter, (kernel, bias) in zip("qkv", parts, strict=True):
        named |= _dense(f"{name}.to_{letter}", {"kernel": kernel, "bias": bias})
    return named | _dense(f"{name}.to_out.0", layer["out"])


def _lucid(params: Any) -> Iterator[tuple[str, np.ndarray]]:
    """denoising_diffusion_pytorch.Unet's names, which linen_unet.py follows."""
    downs = 1 + max(int(found[1]) for n in params if (found := re.match(r"downs_(\d+)", n)))
    for name, layer in params.items():
        place = name.replace("_", ".") if name[:3] in ("ups", "dow") else name
        if name.startswith("time_"):
            yield from _dense(f"time_mlp.{name[-1]}", layer).items()
        elif "mem_kv" in layer:
            yield from _lucid_attention(place, layer).items()
        elif "mlp" in layer:
            yield from _dense(f"{place}.mlp.1", layer["mlp"]).items()
            for i in (1, 2):
                yield from _conv(f"{place}.block{i}.proj", layer[f"proj{i}"]).items()
                yield f"{place}.block{i}.norm.g", layer[f"norm{i}"]["g"][None, :, None, None]
            if "res_conv" in layer:
                yield from _conv(f"{place}.res_conv", layer["res_conv"]).items()
        else:
            # The last resizing of each way is a plain convolution, the others follow a reshaping.
            resized = re.match(r"(downs|ups)_(\d+)_3", name)
            inner = ".1" if resized and int(resized[2]) < downs - 1 else ""
            yield from _conv(place + inner, layer).items()


def _lucid_attention(place: str, layer: Any) -> Arrays:
    named = {f"{place}.norm.g": layer["norm"]["g"][None, :, None, None]}
    named |= _conv(f"{place}.to_qkv", layer["to_qkv"])
    memory = layer["mem_kv"]  # [2, memories, heads, d]
    if "norm_out" in layer:
        named |= _conv(f"{place}.to_out.0", layer["to_out"])
        named[f"{place}.to_out.1.g"] = layer["norm_out"]["g"][None, :, None, None]
        return named | {f"{place}.mem_kv": memory.transpose(0, 2, 3, 1)}
    return (
        named
        | _conv(f"{place}.to_out", layer["to_out"])
        | {f"{place}.mem_kv": memory.transpose(0, 2, 1, 3)}
    )
