"""PyTorch's side of a sampling case: the loop over a scheduler of diffusers."""

import time
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch

from benchmarks import torch_networks
from benchmarks.cases import Case, Contender
from benchmarks.random_images import PIXELS
from benchmarks.torch_training import compiler_mode, device, load, synchronise

# "trailing" has the times of genjax.diffusion.steps.linear.
BETAS = {"beta_start": 1e-4, "beta_end": 0.02, "timestep_spacing": "trailing"}
SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddpm": (diffusers.DDPMScheduler, {"clip_sample": False}),
    "ddim": (diffusers.DDIMScheduler, {"clip_sample": False}),
    "dpm": (diffusers.DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++"}),
}


class Sampling:
    """Draws a batch of images from noise, one after another."""

    def __init__(self, case: Case, contender: Contender, *, bfloat16: bool = False):
        self.case, self.bfloat16 = case, bfloat16
        began = time.monotonic()
        self.model = torch_networks.build(case.network).to(device()).eval()
        self.format = (
            torch.channels_last if "channels-last" in contender.way else torch.contiguous_format
        )
        self.model = self.model.to(memory_format=self.format)
        self.parameters = sum(p.numel() for p in self.model.parameters())
        mode = compiler_mode(contender)
        self.forward = torch.compile(self.model, mode=mode) if mode else self.model
        kind, settings = SCHEDULERS[case.sampler]
        self.scheduler = kind(**BETAS, **settings)
        self.init_seconds = time.monotonic() - began

    @torch.inference_mode()
    def _sample(self, start: torch.Tensor | None) -> torch.Tensor:
        h, w, c = self.case.network.shape
        x = torch.randn(self.case.batch, c, h, w, device=device()) if start is None else start
        x = x.contiguous(memory_format=self.format)
        self.scheduler.set_timesteps(self.case.steps)
        with torch.autocast(device().type, torch.bfloat16, enabled=self.bfloat16):
            for t in self.scheduler.timesteps:
                # Level i of its chain is time i + 1 of ours, the one the network takes.
                noise = self.forward(x, t + 1).sample
                x = self.scheduler.step(noise, t, x).prev_sample
        return x

    def run(self, units: int) -> int:
        for _ in range(units):
            self._sample(None)
        synchronise()
        return units

    def flops(self) -> dict[str, float]:
        from torch.utils.flop_counter import FlopCounterMode

        h, w, c = self.case.network.shape
        x = torch.zeros(self.case.batch, c, h, w, device=device())
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self.model(x, 1)
        return {"products": float(counter.get_total_flops() * self.case.steps)}

    def values(self, path: Path) -> dict[str, list[float]]:
        """Pixels drawn with the weights and from the noise of a file."""
        arrays = np.load(path)
        load(self.model, arrays)
        start = torch.from_numpy(arrays["draw:start"]).permute(0, 3, 1, 2).to(device())
        images = self._sample(start).permute(0, 2, 3, 1).float().cpu().numpy()
        return {"pixels": images.ravel()[:PIXELS].tolist()}
