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


def edm2(weights, x, noise, label, *, s, frequencies=None, phases=None):
    """s: channels, multipliers, blocks, attention, head_features, classes, as of EDM2UNet."""

    def unit(x, dim=None):
        axes = dim or tuple(range(1, x.ndim))
        return x / (1e-4 + x.square().mean(axes, keepdim=True).sqrt())

    def silu(x):
        return functional.silu(x) / 0.596

    def mixed(a, b, t):
        return ((1 - t) * a + t * b) / math.sqrt((1 - t) ** 2 + t**2)

    def mp(name, x, out, k=None, gain=1.0):
        kernel = () if k is None else (k, k)
        w = unit(weights.get(f"{name}.weight", (out, x.shape[1], *kernel)))
        w = w * (gain / math.sqrt(w[0].numel()))
        return x @ w.T if k is None else functional.conv2d(x, w, padding=k // 2)

    def features(n, which):
        if frequencies is None:
            return noise.new_empty((len(noise), n))
        return math.sqrt(2) * torch.cos(
            2 * math.pi * (torch.outer(noise, frequencies[which]) + phases[which])
        )

    def block(name, x, emb, out, how=None, attention=False):
        x, decodes = resample(x, how, (1, 1)), name.startswith("unet.dec")

        def shortcut(x):
            return x if x.shape[1] == out else mp(f"{name}.conv_skip", x, out, 1)

        if not decodes:
            x = unit(shortcut(x), 1)
        y = mp(f"{name}.conv_res0", silu(x), out, 3)
        c = mp(f"{name}.emb_linear", emb, out, gain=weights.get(f"{name}.emb_gain", ())) + 1
        y = mp(f"{name}.conv_res1", silu(y * c[:, :, None, None]), out, 3)
        x = mixed(shortcut(x) if decodes else x, y, 0.3)
        if attention:
            heads = max(1, out // s.head_features)
            qkv = mp(f"{name}.attn_qkv", x, 3 * out, 1).reshape(
                len(x), heads, -1, 3, x[0, 0].numel()
            )
            q, k, v = unit(qkv, 2).unbind(3)
            a = torch.einsum("bhcq,bhck->bhqk", q, k / math.sqrt(q.shape[2])).softmax(-1)
            a = torch.einsum("bhqk,bhck->bhcq", a, v).reshape(x.shape)
            x = mixed(x, mp(f"{name}.attn_proj", a, out, 1), 0.3)
        return x.clip(-256, 256)

    channels, last = [s.channels * m for m in s.multipliers], len(s.multipliers) - 1
    uncertainty = mp("logvar_linear", features(128, 1), 1)[:, 0]
    emb = mp("unet.emb_noise", features(channels[0], 0), max(channels))
    if s.classes:
        one_hot = functional.one_hot(label, s.classes).to(emb) * math.sqrt(s.classes)
        emb = mixed(emb, mp("unet.emb_label", one_hot, max(channels)), 0.5)
    emb = silu(emb)
    out, size = x.shape[1], x.shape[2]
    x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    x = mp(f"unet.enc.{size}x{size}_conv", x, channels[0], 3)
    skips = [x]
    for level, c in enumerate(channels):
        n, attention = f"unet.enc.{size >> level}x{size >> level}", size >> level in s.attention
        if level:
            x = block(f"{n}_down", x, emb, x.shape[1], "down")
            skips.append(x)
        for i in range(s.blocks):
            x = block(f"{n}_block{i}", x, emb, c, attention=attention)
            skips.append(x)
    for level in range(last, -1, -1):
        n, c = f"unet.dec.{size >> level}x{size >> level}", channels[level]
        if level == last:
            x = block(f"{n}_in0", x, emb, c, attention=True)
            x = block(f"{n}_in1", x, emb, c)
        else:
            x = block(f"{n}_up", x, emb, x.shape[1], "up")
        for i in range(s.blocks + 1):
            skip = skips.pop()
            a, b = x.shape[1], skip.shape[1]
            both = [x / math.sqrt(a), skip / math.sqrt(b)]
            x = torch.cat(both, 1) * math.sqrt((a + b) / 2)
            x = block(f"{n}_block{i}", x, emb, c, attention=size >> level in s.attention)
    gain = weights.get("unet.out_gain", ())
    return mp("unet.out_conv", x, out, 3, gain), uncertainty


def published_edm2_name(path, size):
    """The published name of a linen parameter of EDM2UNet, for square images of a side."""
    if path.startswith("uncertainty"):
        return "logvar_linear.weight"
    return "unet." + published_name(path, size)


def published_name(path, size):
    """The published name of a linen parameter of SongUNet, for square images of a side."""
    layer, *rest = path.split("/")
    for end in ("norm", "conv"):
        layer = layer.replace(f"{end}_out", f"dec_0_aux_{end}")
    if layer[:4] in ("enc_", "dec_"):
        way, level, what = layer.split("_", 2)
        side = size >> int(level)
        layer = f"{way}.{side}x{side}_{what}"
    names = {"kernel": "weight", "scale": "weight"}
    return ".".join([layer, *(names.get(name, name) for name in rest)])


def published_layout(name, array, head_features=None):
    """A linen array in PyTorch's layout; that of q, k and v in the order of the published code."""
    array = np.asarray(array)
    if "qkv." in name:
        heads = 1 if head_features is None else max(1, array.shape[-1] // 3 // head_features)
        parts = array.reshape(*array.shape[:-1], 3, heads, -1)
        array = np.moveaxis(parts, -3, -1).reshape(array.shape)
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    if array.ndim == 2:
        array = array.T
        if any(f".{layer}." in f".{name}" for layer in ("qkv", "proj")):
            return array[:, :, None, None]
    return array
