"""genjax's side of a training case: the real train step, fed as the loop feeds it."""

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from benchmarks import games, weights
from benchmarks.cases import Case, Contender
from benchmarks.counting import count
from benchmarks.random_images import IMAGES, random_images
from genjax.data import images_from_arrays
from genjax.train import host_memory
from genjax.train.game import compiled_initial_state, initial_state
from genjax.train.layout import DataParallel
from genjax.train.state import TrainState
from genjax.train.step import make_step

FOREVER = 10**9  # steps
SPREAD = 0.02  # of the noise added to the parameters that two libraries compare


class Training:
    """Steps of a case, one dispatch after another, on one device."""

    def __init__(self, case: Case, contender: Contender, *, bfloat16: bool = False):
        self.case, self.contender = case, contender
        self.dtype = jax.numpy.bfloat16 if bfloat16 else None
        self.timed = games.build(case.network, dtype=self.dtype)
        self.layout = DataParallel(1)
        began = time.monotonic()
        self.key = jax.random.key(1)
        scanned = contender.scan_steps > 1
        # As genjax.run.trainer: where steps are scanned a data set in memory is put on the device.
        held = {"image": random_images(case, IMAGES)} if contender.data and scanned else None
        self.dispatch = self.layout.compile(
            self.timed.game, scan_steps=contender.scan_steps, dataset=held
        )
        self.batches = self._batches()
        first, key = compiled_initial_state(self.timed.game, self.timed.init), jax.random.key(0)
        like = self.layout.like(jax.eval_shape(first, key))
        # As genjax.run.trainer: one core draws the state while the others compile the step.
        with host_memory.compiling(), ThreadPoolExecutor(1) as pool:
            drawn = pool.submit(first, key)
            self.dispatch.prepare(like, self.key, next(self._batches()))
            self.state: TrainState = self.layout.place(drawn.result())
        self.parameters = sum(x.size for x in jax.tree.leaves(self.state.params))
        jax.block_until_ready(self.state)
        self.init_seconds = time.monotonic() - began

    def _batches(self) -> Iterator[Any]:
        n, batch = self.contender.scan_steps, self.case.batch
        if self.contender.data:
            images = images_from_arrays(random_images(self.case, IMAGES))
            read = images.index_batches if n > 1 else images.batches
            return map(self.layout.feed, read(0, 0, batch, scan_steps=n, stop=FOREVER))
        same = {"image": np.stack([random_images(self.case, batch)] * n)}
        return itertools.repeat(self.layout.feed(same))

    def run(self, units: int) -> int:
        """Takes at least that many steps, in complete dispatches; returns how many."""
        dispatches = -(-units // self.contender.scan_steps)
        before = None
        for _ in range(dispatches):
            batch = next(self.batches)
            self.state, metrics = self.dispatch(self.state, self.key, batch)
            if before:  # the loop reads the numbers of the dispatch before
                jax.tree.map(np.asarray, before)
            before = metrics
        jax.block_until_ready(self.state)
        return dispatches * self.contender.scan_steps

    def flops(self) -> dict[str, float]:
        """Of one step: of its convolutions and products by the jaxpr, and of all by XLA."""
        step = make_step(self.timed.game, None)
        batch = {"image": random_images(self.case, self.case.batch)}
        counted = {"products": count(step, self.state, self.key, batch)}
        if analysis := jax.jit(step).lower(self.state, self.key, batch).cost_analysis():
            counted["xla"] = analysis["flops"]
        return counted

    def values(self, path: Path) -> dict[str, float]:
        """Each player's loss and gradient norm at weights and noise that are left in a file."""
        timed = games.build(self.case.network, dtype=self.dtype, dropout=False)
        draw = np.random.default_rng(1)

        def move(x: jax.Array) -> np.ndarray:
            return (x + SPREAD * draw.standard_normal(x.shape)).astype(np.float32)

        params, variables = jax.jit(timed.init)(jax.random.key(0))
        params = jax.tree.map(move, params)
        state = initial_state(timed.game, params, variables)
        images = random_images(self.case, self.case.batch)
        keys = jax.random.split(jax.random.key(2), self.case.batch)
        values = {}
        for name, player in timed.game.items():

            def loss(own, params, state, images, name=name, player=player):
                return player.loss({**params, name: own}, state, keys, {"image": images})[0]

            value, gradient = jax.jit(jax.value_and_grad(loss))(params[name], params, state, images)
            values[f"{name} loss"] = float(value)
            values[f"{name} gradient"] = float(optax.tree.norm(gradient))
        drawn = jax.jit(timed.draws)(keys, images)
        np.savez(
            path,
            **{f"weight:{n}": w for n, w in weights.to_torch(self.case.network, params).items()},
            **{f"draw:{n}": np.asarray(v) for n, v in drawn.items()},
        )
        return values
