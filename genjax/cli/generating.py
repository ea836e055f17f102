"""Images out of a trained state, in chunks of one compiled size."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from genjax.cli.system import System
from genjax.report.pictures import to_uint8
from genjax.train import host_memory
from genjax.train.state import TrainState

CHUNK = 64


def latents(system: System, key: jax.Array, n: int) -> jax.Array:
    """z [n, *latent] ~ N(0, I), each from a key of its own: image i is the same for every n."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(n))
    return jax.vmap(lambda k: jax.random.normal(k, system.latent))(keys)


def labels(system: System, n: int) -> jax.Array | None:
    """Every class in turn, where the system takes labels."""
    return None if system.classes is None else jnp.arange(n, dtype=jnp.int32) % system.classes


class Generator:
    """Compiled functions of a system."""

    def __init__(self, system: System):
        self.system = system
        self._generate = host_memory.freeing(jax.jit(system.generate))
        self._encode = jax.jit(system.encode) if system.encode else None

    def images(
        self,
        state: TrainState,
        key: jax.Array,
        z: jax.Array,
        label: jax.Array | None = None,
        *,
        progress: bool = False,
    ) -> np.ndarray:
        """uint8 [n, H, W, C]; the sampler's own noise is keyed per image."""
        n = len(z)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(n))
        chunk = min(CHUNK, n)
        parts = []
        with tqdm(total=n, unit="image", disable=None if progress else True) as bar:
            for start in range(0, n, chunk):
                rows = jnp.minimum(
                    jnp.arange(start, start + chunk), n - 1
                )  # one shape, one program
                images = self._generate(
                    state, keys[rows], z[rows], None if label is None else label[rows]
                )
                parts.append(to_uint8(np.asarray(images)))
                bar.update(min(chunk, n - start))
        return np.concatenate(parts)[:n]

    def encode(self, state: TrainState, images: np.ndarray) -> jax.Array:
        assert self._encode is not None
        return self._encode(state, images)


def spherical(start: jax.Array, end: jax.Array, t: jax.Array) -> jax.Array:
    """Points on the great arc from start to end [...] at t [n]: [n, ...].

    (sin((1 − t) Ω) start + sin(t Ω) end) / sin Ω, cos Ω = ⟨start, end⟩ / (‖start‖ ‖end‖); Shoemake
    1985. Normal noise lies near a sphere: the straight line between two noises passes through its
    empty inside, where no network was trained (White 2016).
    """
    cosine = jnp.vdot(start, end) / (jnp.linalg.norm(start) * jnp.linalg.norm(end))
    angle = jnp.arccos(jnp.clip(cosine, -1, 1))
    t = t.reshape(-1, *[1] * start.ndim)
    near = jnp.sin(angle) < 1e-4  # parallel: the arc is a line
    weights = [
        jnp.where(near, w, jnp.sin(w * angle) / jnp.where(near, 1, jnp.sin(angle)))
        for w in (1 - t, t)
    ]
    return weights[0] * start[None] + weights[1] * end[None]


def linear(start: jax.Array, end: jax.Array, t: jax.Array) -> jax.Array:
    """Points on the line from start to end [...] at t [n]: [n, ...]."""
    t = t.reshape(-1, *[1] * start.ndim)
    return (1 - t) * start[None] + t * end[None]
