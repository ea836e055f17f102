"""The PyTorch twins, written as PyTorch is usually written, and the peers' own networks."""

import importlib.util
import itertools
import sys
import types
from typing import Any

import torch
from torch import nn

from benchmarks.cases import ConvVae, Dcgan, LucidUNet, Network, UNet, Vae


def build(network: Network) -> nn.Module:
    match network:
        case Vae():
            return _vae(network)
        case ConvVae():
            return _conv_vae(network)
        case Dcgan():
            return _Dcgan(network)
        case UNet():
            return _diffusers(network)
        case LucidUNet():
            return _lucid(network)


def _vae(network: Vae) -> nn.Module:
    h, w, c = network.shape
    encoder = nn.Sequential(
        nn.Linear(h * w * c, network.hidden),
        nn.ReLU(),
        nn.Linear(network.hidden, 2 * network.latent),
    )
    decoder = nn.Sequential(
        nn.Linear(network.latent, network.hidden), nn.ReLU(), nn.Linear(network.hidden, h * w * c)
    )
    return nn.ModuleDict({"encoder": encoder, "decoder": decoder})


def _conv_vae(network: ConvVae) -> nn.Module:
    widths, n = network.widths, len(network.widths)
    h, w = network.shape[0] >> n, network.shape[1] >> n
    channels = network.shape[2]
    encoder: list[nn.Module] = []
    for before, after in zip((channels, *widths), widths, strict=False):
        encoder += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
    code = widths[-1] * h * w
    encoder += [nn.Flatten(), nn.Linear(code, 2 * network.latent)]
    decoder: list[nn.Module] = [
        nn.Linear(network.latent, code),
        nn.ReLU(),
        nn.Unflatten(1, (widths[-1], h, w)),
    ]
    up = (*widths[::-1], channels)
    for before, after in itertools.pairwise(up):
        decoder += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
    return nn.ModuleDict(
        {"encoder": nn.Sequential(*encoder), "decoder": nn.Sequential(*decoder[:-1])}
    )


class _Generator(nn.Module):
    """As genjax's, including momentum of the norm and slopes."""

    def __init__(self, network: Dcgan):
        super().__init__()
        widths, doublings = network.widths, len(network.widths) - 1
        self.start = (widths[0], network.shape[0] >> doublings, network.shape[1] >> doublings)
        features = self.start[0] * self.start[1] * self.start[2]
        self.dense = nn.Linear(network.latent, features, bias=False)
        self.norms = nn.ModuleList(
            [nn.BatchNorm1d(features, momentum=0.01)]
            + [nn.BatchNorm2d(width, momentum=0.01) for width in widths[1:]]
        )
        plain = {"kernel_size": 5, "padding": 2, "bias": False}
        ends = [*itertools.pairwise(widths), (widths[-1], network.shape[2])]
        self.convs = nn.ModuleList(
            nn.ConvTranspose2d(a, b, stride=2 if i else 1, output_padding=1 if i else 0, **plain)
            for i, (a, b) in enumerate(ends)
        )

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        act = nn.functional.leaky_relu
        x = act(self.norms[0](self.dense(z)), 0.3).unflatten(1, self.start)
        for conv, norm in zip(self.convs, self.norms[1:], strict=False):
            x = act(norm(conv(x)), 0.3)
        return torch.tanh(self.convs[-1](x))


class _Dcgan(nn.Module):
    def __init__(self, network: Dcgan):
        super().__init__()
        self.generator = _Generator(network)
        layers: list[nn.Module] = []
        widths = network.widths[:0:-1]
        height, width = network.shape[:2]
        for before, after in zip((network.shape[2], *widths), widths, strict=False):
            layers += [nn.Conv2d(before, after, 5, stride=2, padding=2)]
            layers += [nn.LeakyReLU(0.3), nn.Dropout(0.3)]
            height, width = -(-height // 2), -(-width // 2)
        layers += [nn.Flatten(), nn.Linear(widths[-1] * height * width, 1)]
        self.critic = nn.Sequential(*layers)


def _diffusers(network: UNet) -> nn.Module:
    """UNet2DModel in the settings in which it computes what genjax.models.unet does."""
    from diffusers import UNet2DModel

    levels = len(network.multipliers)
    attends = [network.shape[0] >> i in network.attention for i in range(levels)]
    prefix = ["Attn" if a else "" for a in attends]
    channels = tuple(network.channels * m for m in network.multipliers)
    return UNet2DModel(
        sample_size=network.shape[0],
        in_channels=network.shape[2],
        out_channels=network.shape[2],
        block_out_channels=channels,
        layers_per_block=network.blocks,
        down_block_types=tuple(f"{p}DownBlock2D" for p in prefix),
        up_block_types=tuple(f"{p}UpBlock2D" for p in reversed(prefix)),
        attention_head_dim=min(network.head_features, channels[-1]),
        norm_num_groups=network.groups,
        norm_eps=1e-6,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
    )


class _Absent(types.ModuleType):
    """Stands for a module that only the peer's trainer uses."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Absent(name)


def _lucid(network: LucidUNet) -> nn.Module:
    for name in ("torchvision", "accelerate", "ema_pytorch", "pytorch_fid"):
        if importlib.util.find_spec(name) is None:
            sys.modules[name] = _Absent(name)
    from denoising_diffusion_pytorch import Unet

    return Unet(network.channels, dim_mults=network.multipliers, channels=network.shape[2])
