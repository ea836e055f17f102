"""How a step and its arrays lie over devices: the only file that says pmap."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from genjax.train.game import Game
from genjax.train.state import TrainState
from genjax.train.step import Step, StepMetrics, make_step

AXIS = "data"

Dispatch = Callable[[TrainState, jax.Array, Any], tuple[TrainState, StepMetrics]]


@dataclass(frozen=True)
class Program:
    """(state, key, fed batches) -> (state, metrics [n]), the state donated; a Dispatch.

    function: jitted; takes `held` as well, what is kept on the devices, or None.
    """

    function: Any
    held: Any

    def __call__(
        self, state: TrainState, key: jax.Array, batches: Any
    ) -> tuple[TrainState, StepMetrics]:
        return self.function(state, key, batches, self.held)

    def prepare(self, state: TrainState, key: jax.Array, batches: Any) -> None:
        """Compiles for arrays or `Layout.like` of them; a call with such finds it done."""
        self.function.lower(state, key, batches, self.held).compile()


class Layout(Protocol):
    """devices_in_all: over every process. compile(game): the program of its steps; with `held`, a
    data set {name: [N, ...]} that is kept on the devices, batches are indices [n, B] into it.
    place(state): the state on the devices. like(state): its shapes, types and shardings there.
    feed(batches): host arrays [n, B, ...] of n steps, this process' share of the batch, onto the
    devices. gather(state): whole arrays on one of this process' devices; all processes call it
    together.
    """

    @property
    def devices_in_all(self) -> int: ...
    def compile(
        self, game: Game, *, several: bool = True, skip: bool = False, held: Any = None
    ) -> Program: ...
    def place(self, state: TrainState) -> TrainState: ...
    def like(self, state: TrainState) -> TrainState: ...
    def feed(self, batches: Any) -> Any: ...
    def gather(self, state: TrainState) -> TrainState: ...


def _dispatch(step: Step, several: bool) -> Callable[..., tuple[TrainState, StepMetrics]]:
    """n steps in one dispatch over batches [n, B, ...], so that the host is not the bottleneck.

    Without `several` n is 1 and there is no loop around the step.
    """

    def dispatch(
        state: TrainState, key: jax.Array, batches: Any, held: Any
    ) -> tuple[TrainState, StepMetrics]:
        def one(state: TrainState, batch: Any) -> tuple[TrainState, StepMetrics]:
            if held is not None:
                batch = jax.tree.map(lambda x: x[batch], held)
            return step(state, key, batch)

        if not several:
            state, metrics = one(state, jax.tree.map(lambda x: x[0], batches))
            return state, jax.tree.map(lambda m: m[None], metrics)
        return jax.lax.scan(one, state, batches)

    return dispatch


class LayoutError(ValueError):
    """A batch that does not fit the devices; the message is one line saying what to do."""

    exit_code = 2


def check(game: Game, batch: int, devices: int) -> None:
    """Raises LayoutError unless the batch divides over the devices and each player's slices."""
    for name, player in game.items():
        unit = devices * player.turns * player.microbatches
        if batch < 1 or batch % unit:
            cut = f" and into {unit // devices} slices for {name!r}" if unit > devices else ""
            raise LayoutError(
                f"a batch of {batch} does not divide over {devices} devices{cut}: "
                f"take a multiple of {unit}, such as {max(unit, batch // unit * unit)}"
            )


def _first_of_each_process(count: int | None) -> list[jax.Device]:
    return [
        device
        for process in range(jax.process_count())
        for device in jax.local_devices(process)[:count]
    ]


def _first_copy(state: TrainState) -> TrainState:
    # The copy outlives the state, whose buffers the next dispatch is donated.
    return jax.tree.map(lambda x: jnp.copy(x.addressable_data(0)), state)


def _shape(x: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


@dataclass(frozen=True)
class DataParallel:
    """jax.pmap: every device holds the whole state and a share of the batch.

    devices: how many of this process' devices to use; None for all.
    """

    devices: int | None = None

    @cached_property
    def mesh(self) -> Mesh:
        return Mesh(np.asarray(jax.local_devices()[: self.devices]), (AXIS,))

    @property
    def devices_in_all(self) -> int:
        return self.mesh.size * jax.process_count()

    def compile(
        self, game: Game, *, several: bool = True, skip: bool = False, held: Any = None
    ) -> Program:
        dispatch = jax.pmap(
            _dispatch(make_step(game, AXIS, skip=skip), several),
            axis_name=AXIS,
            in_axes=(None, None, 0, None),
            out_axes=(None, None),
            donate_argnums=0,
            devices=None if self.devices is None else _first_of_each_process(self.devices),
        )
        return Program(dispatch, jax.device_put(held, self._copied))

    @property
    def _copied(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    def place(self, state: TrainState) -> TrainState:
        return jax.device_put(state, self._copied)

    def like(self, state: TrainState) -> TrainState:
        return jax.tree.map(lambda x: _shape(x, self._copied), state)

    def feed(self, batches: Any) -> Any:
        count = self.mesh.size

        def put(x: np.ndarray) -> jax.Array:
            shares = x.reshape(x.shape[0], count, -1, *x.shape[2:]).swapaxes(0, 1)
            return jax.device_put(shares, NamedSharding(self.mesh, PartitionSpec(AXIS)))

        return jax.tree.map(put, batches)

    def gather(self, state: TrainState) -> TrainState:
        return _first_copy(state)


@dataclass(frozen=True)
class FullySharded:
    """jax.jit over a mesh: parameters, optimizer and averages lie sharded over all devices.

    devices: how many of each process' devices to use; None for all.
    smallest: arrays of fewer elements stay replicated, as their communication costs more.
    """

    devices: int | None = None
    smallest: int = 2**14

    @cached_property
    def mesh(self) -> Mesh:
        return Mesh(np.asarray(_first_of_each_process(self.devices)), (AXIS,))

    @property
    def devices_in_all(self) -> int:
        return self.mesh.size

    def _sharding(self, x: Any) -> NamedSharding:
        fitting = [a for a, size in enumerate(x.shape) if size % self.mesh.size == 0]
        if x.size < self.smallest or not fitting:
            return NamedSharding(self.mesh, PartitionSpec())
        largest = max(fitting, key=lambda a: x.shape[a])
        return NamedSharding(self.mesh, PartitionSpec(*[None] * largest, AXIS))

    def compile(
        self, game: Game, *, several: bool = True, skip: bool = False, held: Any = None
    ) -> Program:
        step = make_step(game, None, skip=skip)

        def pinned(state, key, batch):
            state, metrics = step(state, key, batch)
            shardings = jax.tree.map(self._sharding, state)
            return jax.lax.with_sharding_constraint(state, shardings), metrics

        dispatch = jax.jit(_dispatch(pinned, several), donate_argnums=0)
        held = jax.device_put(held, NamedSharding(self.mesh, PartitionSpec()))
        return Program(dispatch, held)

    def place(self, state: TrainState) -> TrainState:
        return jax.device_put(state, jax.tree.map(self._sharding, state))

    def like(self, state: TrainState) -> TrainState:
        return jax.tree.map(lambda x: _shape(x, self._sharding(x)), state)

    def feed(self, batches: Any) -> Any:
        sharding = NamedSharding(self.mesh, PartitionSpec(None, AXIS))

        def put(x: np.ndarray) -> jax.Array:
            return jax.make_array_from_process_local_data(sharding, x)

        return jax.tree.map(put, batches)

    @cached_property
    def _whole(self) -> Callable[[TrainState], TrainState]:
        return jax.jit(lambda s: s, out_shardings=NamedSharding(self.mesh, PartitionSpec()))

    def gather(self, state: TrainState) -> TrainState:
        return _first_copy(self._whole(state))
