"""genjax's side of a sampling case: a sampler's scan under one jit."""

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import games, weights
from benchmarks.cases import Case, Contender
from benchmarks.counting import count
from benchmarks.random_images import PIXELS
from genjax.diffusion import multistep, predictions, samplers, steps
from genjax.train import host_memory

SAMPLERS = {
    "ddpm": samplers.ancestral,
    "ddim": samplers.ddim,
    "dpm": multistep.dpm_solver_2m,
}


class Sampling:
    """Draws a batch of images from noise, one after another."""

    def __init__(self, case: Case, contender: Contender, *, bfloat16: bool = False):
        self.case = case
        self.model = games.denoiser(case.network, jnp.bfloat16 if bfloat16 else None)
        timed = games.build(case.network)
        began = time.monotonic()
        init = jax.jit(timed.init, compiler_options={"xla_backend_optimization_level": 0})
        self.params = init(jax.random.key(0))[0]["unet"]
        self.parameters = sum(x.size for x in jax.tree.leaves(self.params))
        self.init_seconds = time.monotonic() - began
        self.keys = jax.random.split(jax.random.key(1), case.batch)
        self.sample = host_memory.ahead(jax.jit(self._sample), "the sampler")  # as genjax.run does

    def _sample(self, params, keys, start):
        shape = (self.case.batch, *self.case.network.shape)
        return SAMPLERS[self.case.sampler](
            lambda z, t: self.model.apply(params, z, t),
            keys,
            shape,
            schedule=games.SCHEDULE,
            target=predictions.noise,
            steps=steps.linear(self.case.steps),
            start=start,
        )

    def run(self, units: int) -> int:
        for _ in range(units):
            self.sample(self.params, self.keys, None).block_until_ready()
        return units

    def flops(self) -> dict[str, float]:
        return {"products": count(self._sample, self.params, self.keys, None)}

    def values(self, path: Path) -> dict[str, list[float]]:
        """Pixels sampled with weights and noise that are written to a file."""
        if self.case.sampler == "ddpm":
            return {}
        draw = np.random.default_rng(1)
        params = jax.tree.map(
            lambda x: np.float32(x + 0.02 * draw.standard_normal(x.shape)), self.params
        )
        start = np.float32(draw.standard_normal((self.case.batch, *self.case.network.shape)))
        named = weights.to_torch(self.case.network, {"unet": params})
        np.savez(path, **{"draw:start": start}, **{f"weight:{n}": w for n, w in named.items()})
        images = np.asarray(self.sample(params, self.keys, start))
        return {"pixels": images.ravel()[:PIXELS].tolist()}
