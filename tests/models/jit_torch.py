"""JiT in PyTorch, with the names and shapes of the arrays of its authors' code."""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class RMSNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def turned(x, angles):
    """Neighbours 2i, 2i + 1 as complex numbers, times exp(iθ)."""
    turn = torch.polar(torch.ones_like(angles), angles)
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
    return torch.view_as_real(pairs * turn).reshape(x.shape)


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.q_norm, self.k_norm = RMSNorm(width // heads), RMSNorm(width // heads)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x, angles):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = turned(self.q_norm(q), angles), turned(self.k_norm(k), angles)
        weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, c))


class SwiGLU(nn.Module):
    def __init__(self, width):
        super().__init__()
        hidden = int(4 * width * 2 / 3)
        self.w12, self.w3 = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)

    def forward(self, x):
        gate, value = self.w12(x).chunk(2, -1)
        return self.w3(F.silu(gate) * value)


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(width), RMSNorm(width)
        self.attn, self.mlp = Attention(width, heads), SwiGLU(width)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x, c, angles):
        b1, g1, a1, b2, g2, a2 = self.adaLN_modulation(c)[:, None].chunk(6, -1)
        x = x + a1 * self.attn(self.norm1(x) * (1 + g1) + b1, angles)
        return x + a2 * self.mlp(self.norm2(x) * (1 + g2) + b2)


class TimestepEmbedder(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t):
        angle = t[:, None] * torch.exp(-math.log(10000) * torch.arange(128) / 128)
        return self.mlp(torch.cat([angle.cos(), angle.sin()], -1))


class LabelEmbedder(nn.Module):
    def __init__(self, classes, width):
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, width)


class BottleneckPatchEmbed(nn.Module):
    def __init__(self, patch, channels, bottleneck, width):
        super().__init__()
        self.proj1 = nn.Conv2d(channels, bottleneck, patch, patch, bias=False)
        self.proj2 = nn.Conv2d(bottleneck, width, 1)


class FinalLayer(nn.Module):
    def __init__(self, width, outputs):
        super().__init__()
        self.norm_final, self.linear = RMSNorm(width), nn.Linear(width, outputs)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x, c):
        shift, scale = self.adaLN_modulation(c)[:, None].chunk(2, -1)
        return self.linear(self.norm_final(x) * (1 + scale) + shift)


class JiT(nn.Module):
    def __init__(self, size, patch, channels, classes, width, depth, heads, bottleneck, length, at):
        super().__init__()
        self.patch, self.side, self.at, self.channels = patch, size // patch, at, channels
        self.t_embedder, self.y_embedder = TimestepEmbedder(width), LabelEmbedder(classes, width)
        self.x_embedder = BottleneckPatchEmbed(patch, channels, bottleneck, width)
        self.register_buffer("pos_embed", torch.tensor(sines(self.side, width)).float()[None])
        self.in_context_posemb = nn.Parameter(torch.zeros(1, length, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.final_layer = FinalLayer(width, patch * patch * channels)
        quarter = width // heads // 4
        omega = 10000.0 ** -(torch.arange(quarter) / quarter)
        along = torch.arange(self.side)[:, None] * omega
        rows = along[:, None].expand(-1, self.side, -1)
        columns = along[None].expand(self.side, -1, -1)
        self.angles = torch.cat([rows, columns], -1).reshape(self.side**2, -1)

    def forward(self, z, t, label):
        y = self.y_embedder.embedding_table(label)
        c = self.t_embedder(t) + y
        x = self.x_embedder.proj2(self.x_embedder.proj1(z)).flatten(2).transpose(1, 2)
        x, angles, length = x + self.pos_embed, self.angles, self.in_context_posemb.shape[1]
        for i, block in enumerate(self.blocks):
            if i == self.at:
                x = torch.cat([y[:, None] + self.in_context_posemb, x], 1)
                angles = torch.cat([torch.zeros(length, angles.shape[1]), angles])
            x = block(x, c, angles)
        x = self.final_layer(x[:, length:], c)
        x = x.reshape(-1, self.side, self.side, self.patch, self.patch, self.channels)
        return torch.einsum("nhwpqc->nchpwq", x).reshape(z.shape)


def sines(side, width):
    """The fixed positions of DiT's code, in float64: columns first."""

    def along(place):
        omega = 1 / 10000 ** (np.arange(width // 4) / (width / 4))
        angle = np.einsum("m,d->md", place.reshape(-1), omega)
        return np.concatenate([np.sin(angle), np.cos(angle)], 1)

    columns, rows = np.meshgrid(np.arange(side, dtype=float), np.arange(side, dtype=float))
    return np.concatenate([along(columns), along(rows)], 1)
