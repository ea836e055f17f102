"""PyTorch's side of a training case: eager, channels-last or compiled."""

import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks import torch_networks
from benchmarks.cases import Case, Contender, ConvVae, Dcgan, LucidUNet, Network, UNet, Vae
from benchmarks.random_images import IMAGES, random_images

EMA = 0.999
LEVELS = 1000
Draws = dict[str, torch.Tensor]


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def compiler_mode(contender: Contender) -> str | None:
    """torch.compile's mode; None for eager."""
    found = {"compile": "default", "max-autotune": "max-autotune"}
    return found.get(contender.way.split()[0])


class Training:
    """Steps of a case; Adam and the average by the fastest implementations in PyTorch."""

    def __init__(self, case: Case, contender: Contender, *, bfloat16: bool = False):
        self.case, self.contender, self.bfloat16 = case, contender, bfloat16
        began = time.monotonic()
        self.model = torch_networks.build(case.network).to(device()).train()
        self.channels_last = "channels-last" in contender.way
        if self.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.turns = _turns(case.network, self.model)
        self.losses: dict[str, Callable] = {turn.name: turn.loss for turn in self.turns}
        if mode := compiler_mode(contender):
            self.losses = {n: torch.compile(loss, mode=mode) for n, loss in self.losses.items()}
        self.init_seconds = time.monotonic() - began
        self.batches = self._batches()

    def _batches(self) -> Iterator[torch.Tensor]:
        if self.contender.data:
            images = _channels_first(random_images(self.case, IMAGES))
            if torch.cuda.is_available():  # all of them there, as genjax does
                yield from self._gathered(self._placed(images))
            loader = torch.utils.data.DataLoader(
                torch.utils.data.TensorDataset(images),
                batch_size=self.case.batch,
                shuffle=True,
                drop_last=True,
            )
            while True:
                yield from (self._placed(x) for (x,) in loader)
        batch = self._placed(_channels_first(random_images(self.case, self.case.batch)))
        while True:
            yield batch

    def _gathered(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
        batch = self.case.batch
        while True:
            order = torch.randperm(len(images), device=images.device)
            for first in range(0, len(images) - batch + 1, batch):
                yield self._placed(images[order[first : first + batch]])

    def _placed(self, x: torch.Tensor) -> torch.Tensor:
        x = x.to(device())
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last else x

    def run(self, units: int) -> int:
        for _ in range(units):
            self._step(next(self.batches))
        synchronise()
        return units

    def _step(self, x: torch.Tensor) -> None:
        for turn in self.turns:
            turn.optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device().type, torch.bfloat16, enabled=self.bfloat16):
                loss = self.losses[turn.name](x, None)
            loss.backward()
            turn.optimizer.step()
            if turn.averages:
                with torch.no_grad():
                    torch._foreach_lerp_(turn.averages, turn.owned, 1 - EMA)

    def flops(self) -> dict[str, float]:
        """Of one step's convolutions and matrix products, by PyTorch's own counter."""
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            self._step(next(self.batches))
        return {"products": float(counter.get_total_flops())}

    def values(self, path: Path) -> dict[str, float]:
        """Each player's loss and gradient norm at the weights and noise of a file."""
        arrays = np.load(path)
        model = copy.deepcopy(self.model)
        load(model, arrays)
        for layer in model.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
        drawn = {
            n[5:]: torch.from_numpy(arrays[n]).to(device()) for n in arrays if n[:5] == "draw:"
        }
        x = _channels_first(random_images(self.case, self.case.batch))
        if isinstance(self.case.network, Dcgan):
            x = x.flip(2, 3)  # see weights.py
        values = {}
        for turn in _turns(self.case.network, model):
            model.zero_grad()
            loss = turn.loss(self._placed(x), drawn)
            loss.backward()
            values[f"{turn.name} loss"] = loss.item()
            squares = [p.grad.square().sum() for p in turn.owned if p.grad is not None]
            values[f"{turn.name} gradient"] = torch.stack(squares).sum().sqrt().item()
        return values


def load(model: nn.Module, arrays: Any) -> None:
    """Every parameter from a file that names them all; batch statistics start as they are."""
    given = {n[7:]: torch.from_numpy(arrays[n].copy()) for n in arrays if n[:7] == "weight:"}
    missing, unknown = model.load_state_dict(given, strict=False)
    buffers = {name for name, _ in model.named_buffers()}
    if unknown or set(missing) - buffers:
        raise ValueError(f"twins differ: missing {set(missing) - buffers}, unknown {unknown}")


def _channels_first(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


class _Turn:
    """One player's turn: a loss of (images uint8, draws or None) and its optimizer."""

    def __init__(self, name: str, model: nn.Module, loss: Callable, average: bool, **adam: Any):
        self.name, self.loss = name, loss
        self.owned = list(model.parameters())
        self.optimizer = torch.optim.Adam(self.owned, fused=True, **adam)
        self.averages = [p.detach().clone() for p in self.owned] if average else []


def _turns(network: Network, model: nn.Module) -> list[_Turn]:
    match network:
        case Vae() | ConvVae():
            return [_Turn("vae", model, _elbo(network, model), True, lr=1e-3)]
        case Dcgan():
            adam = {"lr": 2e-4, "betas": (0.5, 0.999)}
            critic, generator = _game(network, model)
            return [
                _Turn("critic", model.critic, critic, False, **adam),
                _Turn("generator", model.generator, generator, True, **adam),
            ]
        case UNet() | LucidUNet():
            return [_Turn("unet", model, _denoising(network, model), True, lr=2e-4)]


def _elbo(network: Vae | ConvVae, model: nn.Module) -> Callable:
    def loss(images: torch.Tensor, draws: Draws | None) -> torch.Tensor:
        x = images / 255
        x = x.flatten(1) if isinstance(network, Vae) else x
        mean, log_var = model["encoder"](x).chunk(2, 1)
        noise = torch.randn_like(mean) if draws is None else draws["noise"]
        logits = model["decoder"](mean + (0.5 * log_var).exp() * noise)
        nll = functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        kl = 0.5 * (log_var.exp() + mean.square() - 1 - log_var).sum()
        return (nll + kl) / len(x)

    return loss


def _game(network: Dcgan, model: nn.Module) -> tuple[Callable, Callable]:
    bce = functional.binary_cross_entropy_with_logits

    def noise(images: torch.Tensor, draws: Draws | None, name: str) -> torch.Tensor:
        if draws is not None:
            return draws[name]
        return torch.randn(len(images), network.latent, device=images.device)

    def critic(images: torch.Tensor, draws: Draws | None) -> torch.Tensor:
        fakes = model.generator(noise(images, draws, "critic")).detach()
        real, fake = model.critic(images / 127.5 - 1), model.critic(fakes)
        return bce(real, torch.ones_like(real)) + bce(fake, torch.zeros_like(fake))

    def generator(images: torch.Tensor, draws: Draws | None) -> torch.Tensor:
        fake = model.critic(model.generator(noise(images, draws, "generator")))
        return bce(fake, torch.ones_like(fake))

    return critic, generator


def signal_levels() -> torch.Tensor:
    """ᾱ of Ho et al.'s 1,000 levels."""
    betas = torch.linspace(1e-4, 0.02, LEVELS, dtype=torch.float64)
    return torch.cumprod(1 - betas, 0).float().to(device())


def _denoising(network: UNet | LucidUNet, model: nn.Module) -> Callable:
    levels = signal_levels()

    def loss(images: torch.Tensor, draws: Draws | None) -> torch.Tensor:
        x = images / 127.5 - 1
        if draws is None:
            time = torch.randint(1, LEVELS + 1, (len(x),), device=x.device)
            noise = torch.randn_like(x)
        else:
            time = draws["time"].round().long()
            noise = draws["noise"].permute(0, 3, 1, 2)
        signal = levels[time - 1][:, None, None, None]
        z = signal.sqrt() * x + (1 - signal).sqrt() * noise
        output = model(z, time)
        output = output.sample if isinstance(network, UNet) else output
        return functional.mse_loss(output, noise)

    return loss
