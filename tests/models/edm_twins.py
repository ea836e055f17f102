"""The networks of EDM in PyTorch, derived from the papers again: layers by the published names.

`song` and `edm2` are functions of one image batch NCHW and a dictionary of weights by name. Called
with weights that invent themselves (`Shapes`) they tell every array's shape.
"""

import math

import numpy as np
import torch
from torch.nn import functional

ROOT_HALF = math.sqrt(0.5)


class Shapes(dict):
    """Weights that are created where they are asked for, without data."""

    def get(self, name, shape):
        self[name] = tuple(shape)
        return torch.empty(shape, device="meta")


class Given(dict):
    """Weights that are there: another shape than expected is an error."""

    def get(self, name, shape):
        assert self[name].shape == tuple(shape), name
        return self[name]


def kernel(taps, channels, gain):
    f = torch.tensor(taps, dtype=torch.float32)
    f = torch.outer(f, f) / f.sum() ** 2 * gain
    return f[None, None].repeat(channels, 1, 1, 1)


def resample(x, how, taps):
    pad, c = (len(taps) - 1) // 2, x.shape[1]
    if how == "down":
        f = kernel(taps, c, 1).to(x)
        return functional.conv2d(x, f, groups=c, stride=2, padding=pad)
    if how == "up":
        f = kernel(taps, c, 4).to(x)
        return functional.conv_transpose2d(x, f, groups=c, stride=2, padding=pad)
    return x


def song(weights, x, noise, label, augment, *, s, frequencies=None):
    """s: channels, multipliers, blocks, attention, ncsnpp, classes, augment, as of SongUNet."""
    taps = (1, 3, 3, 1) if s.ncsnpp else (1, 1)

    def linear(name, x, out, bias=True):
        y = x @ weights.get(f"{name}.weight", (out, x.shape[1])).T
        return y + weights.get(f"{name}.bias", (out,)) if bias else y

    def conv(name, x, out, k, **how):
        w = weights.get(f"{name}.weight", (out, x.shape[1], k, k))
        b = weights.get(f"{name}.bias", (out,))
        return functional.conv2d(x, w, b, padding=k // 2, **how)

    def norm(name, x):
        c = x.shape[1]
        w, b = (weights.get(f"{name}.{part}", (c,)) for part in ("weight", "bias"))
        return functional.group_norm(x, min(32, c // 4), w, b, 1e-6)

    def block(name, x, emb, out, how=None, attention=False):
        h = resample(functional.silu(norm(f"{name}.norm0", x)), how, taps)
        h = conv(f"{name}.conv0", h, out, 3)
        h = h + linear(f"{name}.affine", emb, out)[:, :, None, None]
        h = conv(f"{name}.conv1", functional.silu(norm(f"{name}.norm1", h)), out, 3)
        if how or x.shape[1] != out:
            x = conv(f"{name}.skip", resample(x, how, taps), out, 1)
        x = (x + h) * ROOT_HALF
        if attention:
            qkv = conv(f"{name}.qkv", norm(f"{name}.norm2", x), 3 * out, 1)
            q, k, v = qkv.reshape(len(x), out, 3, -1).unbind(2)  # channels of one head, then which
            a = torch.einsum("bcq,bck->bqk", q, k / math.sqrt(out)).softmax(-1)
            a = torch.einsum("bqk,bck->bcq", a, v).reshape(x.shape)
            x = (x + conv(f"{name}.proj", a, out, 1)) * ROOT_HALF
        return x

    width = s.channels * (2 if s.ncsnpp else 1)
    if s.ncsnpp:
        angle = 2 * math.pi * torch.outer(noise, torch.as_tensor(frequencies))
    else:
        half = torch.arange(width // 2, device=noise.device) / (width // 2 - 1)
        angle = torch.outer(noise, 10000.0**-half)
    emb = torch.cat([angle.sin(), angle.cos()], 1)
    if s.classes:
        one_hot = functional.one_hot(label, s.classes).to(emb) * math.sqrt(s.classes)
        emb = emb + linear("map_label", one_hot, width)
    if s.augment:
        emb = emb + linear("map_augment", augment, width, bias=False)
    for i in range(2):
        emb = functional.silu(linear(f"map_layer{i}", emb, 4 * s.channels))

    last, channels = len(s.multipliers) - 1, [s.channels * m for m in s.multipliers]
    image, size = x, x.shape[2]
    x = conv(f"enc.{size}x{size}_conv", x, s.channels, 3)
    skips = [x]
    for level, c in enumerate(channels):
        n = f"enc.{size >> level}x{size >> level}"
        if level:
            x = block(f"{n}_down", x, emb, x.shape[1], "down")
            if s.ncsnpp:
                w = weights.get(f"{n}_aux_residual.weight", (x.shape[1], image.shape[1], 3, 3))
                b = weights.get(f"{n}_aux_residual.bias", (x.shape[1],))
                wide, c2 = functional.conv2d(image, w, padding=2), x.shape[1]
                f = kernel(taps, c2, 1).to(x)
                shrunk = functional.conv2d(wide, f, groups=c2, stride=2) + b[:, None, None]
                x = image = (x + shrunk) * ROOT_HALF
            skips.append(x)
        for i in range(s.blocks):
            attention = size >> level in s.attention
            x = block(f"{n}_block{i}", x, emb, c, attention=attention)
            skips.append(x)
    for level in range(last, -1, -1):
        n, c = f"dec.{size >> level}x{size >> level}", channels[level]
        if level == last:
            x = block(f"{n}_in0", x, emb, c, attention=True)
            x = block(f"{n}_in1", x, emb, c)
        else:
            x = block(f"{n}_up", x, emb, x.shape[1], "up")
        for i in range(s.blocks + 1):
            x = torch.cat([x, skips.pop()], 1)
            attention = i == s.blocks and size >> level in s.attention
            x = block(f"{n}_block{i}", x, emb, c, attention=attention)
    x = functional.silu(norm(f"dec.{size}x{size}_aux_norm", x))
    return conv(f"dec.{size}x{size}_aux_conv", x, s.out, 3)


def published_name(path, size):
    """The published name of a linen parameter of SongUNet, for square images of a side."""
    layer, *rest = path.split("/")
    for end in ("norm", "conv"):
        layer = layer.replace(f"{end}_out", f"dec_0_aux_{end}")
    if layer[:4] in ("enc_", "dec_"):
        way, level, what = layer.split("_", 2)
        side = size >> int(level)
        layer = f"{way}.{side}x{side}_{what}"
    last = rest.pop()
    return ".".join([layer, *rest, "bias" if last == "bias" else "weight"])


def published_layout(name, array):
    """A linen array in PyTorch's layout; that of q, k and v in the order of the published code."""
    array = np.asarray(array)
    if ".qkv." in f".{name}":
        array = array.reshape(*array.shape[:-1], 3, -1).swapaxes(-1, -2).reshape(array.shape)
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    if array.ndim == 2:
        array = array.T
        if any(f".{layer}." in f".{name}" for layer in ("qkv", "proj")):
            return array[:, :, None, None]
    return array
