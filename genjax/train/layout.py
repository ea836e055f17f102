"""How a step and its arrays lie over devices: the only file that uses pmap."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from genjax.errors import GenjaxError
from genjax.over_batch import DATA_AXIS
from genjax.train.game import Game, Player
from genjax.train.state import TrainState
from genjax.train.step import Step, StepMetrics, make_step


@dataclass(frozen=True)
class CompiledSteps:
    """A few train steps in one call: (state, key, batches) -> (state, metrics [n]).

    The state is donated: its buffers are those of the result. The number of steps n is the length
    of the batches.

    Attributes:
      function: jitted; takes (`dataset`,) as its fourth argument.
      dataset: arrays [N, ...] on the devices that batches are indices into, or None.
    """

    function: Any
    dataset: Any

    def __call__(
        self, state: TrainState, key: jax.Array, batches: Any
    ) -> tuple[TrainState, StepMetrics]:
        """Runs the steps.

        Args:
          state: placed; its buffers are donated.
          key: of the train steps.
          batches: as `Layout.feed` returns them, of n steps.

        Returns:
          The state after the steps, and {metric: [n]}.
        """
        return self.function(state, key, batches, (self.dataset,))

    def prepare(self, state: TrainState, key: jax.Array, batches: Any) -> None:
        """Compiles ahead; a call with arrays of these shapes does not compile again.

        Args:
          state: placed, or `Layout.like` of one.
          key: of the train steps.
          batches: as `Layout.feed` returns them.
        """
        self._compiled(state, key, batches)

    def memory(self, state: TrainState, key: jax.Array, batches: Any) -> int | None:
        """What a call takes, by the compiler's account.

        Args:
          state: as for `prepare`.
          key: as for `prepare`.
          batches: as for `prepare`.

        Returns:
          Bytes on each device; None where this platform's compiler does not tell.
        """
        found = self._compiled(state, key, batches).memory_analysis()
        if found is None:
            return None
        taken = found.argument_size_in_bytes + found.output_size_in_bytes
        return int(taken + found.temp_size_in_bytes - found.alias_size_in_bytes)

    def _compiled(self, state: TrainState, key: jax.Array, batches: Any) -> jax.stages.Compiled:
        return self.function.lower(state, key, batches, (self.dataset,)).compile()


class Layout(Protocol):
    """Where the state and the batches of a run lie."""

    @property
    def devices_in_all(self) -> int:
        """How many devices share a batch, over every process."""
        ...

    def compile(
        self,
        game: Game,
        *,
        scan_steps: int = 1,
        skip_nonfinite: bool = False,
        dataset: Any = None,
    ) -> CompiledSteps:
        """The train steps of a game on these devices.

        Args:
          game: the players.
          scan_steps: the most train steps in one call, which are scanned so that the host is not
            the bottleneck; with 1 there is no loop around the step.
          skip_nonfinite: as in `make_step`.
          dataset: host arrays {name: [N, ...]} to keep on every device; batches are then indices
            [n, B] into them.

        Returns:
          The compiled steps; compiled at their first call, or by `prepare`.
        """
        ...

    def place(self, state: TrainState) -> TrainState:
        """The state on the devices.

        Args:
          state: host arrays, or arrays on one device.

        Returns:
          The same arrays, laid out.
        """
        ...

    def like(self, state: TrainState) -> TrainState:
        """What `place` would return, without its arrays.

        Args:
          state: arrays, or shapes and types.

        Returns:
          Shapes, types and shardings.
        """
        ...

    def feed(self, batches: Any) -> Any:
        """The batches of n steps on the devices.

        Args:
          batches: host arrays [n, B, ...], this process' share of each batch.

        Returns:
          What the compiled steps take.
        """
        ...

    def gather(self, state: TrainState) -> TrainState:
        """The complete arrays on one of this process' devices; all processes call it together.

        Args:
          state: as `place` returns it.

        Returns:
          Copies, which outlive the state's donated buffers.
        """
        ...


def _scanned(step: Step, scan_steps: int) -> Callable[..., tuple[TrainState, StepMetrics]]:
    def steps(
        state: TrainState, key: jax.Array, batches: Any, held: tuple[Any]
    ) -> tuple[TrainState, StepMetrics]:
        (dataset,) = held

        def one(state: TrainState, batch: Any) -> tuple[TrainState, StepMetrics]:
            if dataset is not None:
                batch = jax.tree.map(lambda x: x[batch], dataset)
            return step(state, key, batch)

        n = jax.tree.leaves(batches)[0].shape[0]
        if n > scan_steps:
            raise ValueError(f"{n} train steps in one call, but scan_steps is {scan_steps}")
        if scan_steps == 1:
            state, metrics = one(state, jax.tree.map(lambda x: x[0], batches))
            return state, jax.tree.map(lambda m: m[None], metrics)
        return jax.lax.scan(one, state, batches)

    return steps


class LayoutError(GenjaxError, ValueError):
    """A batch that does not fit the devices; the message is one line saying what to do."""


def check(game: Game, batch: int, devices: int) -> None:
    """Checks that a batch divides over the devices and into each player's slices.

    Args:
      game: the players.
      batch: examples per step, over all processes.
      devices: how many share it.

    Raises:
      LayoutError: where it does not; the message suggests a batch that does.
    """
    for name, player in game.items():
        slices = player.turns * player.microbatches
        unit = devices * slices
        if batch < 1 or batch % unit:
            cut = (
                f" and, by {_cuts(player)}, into {slices} slices for {name!r}" if slices > 1 else ""
            )
            raise LayoutError(
                f"--run.batch {batch} does not divide over {devices} devices{cut}: "
                f"take a multiple of {unit}, such as {max(unit, batch // unit * unit)}"
            )


def _cuts(player: Player) -> str:
    counts = {"--turns": player.turns, "--optimizer.microbatches": player.microbatches}
    return ", ".join(f"{flag} {count}" for flag, count in counts.items() if count > 1)


def _first_of_each_process(count: int | None) -> list[jax.Device]:
    return [
        device
        for process in range(jax.process_count())
        for device in jax.local_devices(process)[:count]
    ]


def _first_copy(state: TrainState) -> TrainState:
    # The copy outlives the state, whose buffers the next call is donated.
    return jax.tree.map(lambda x: jnp.copy(x.addressable_data(0)), state)


def shares(devices: int | None, sharded: bool) -> int:
    """Into how many shares of a batch a step divides a loss: each is a call of its own.

    Args:
      devices: of this process; None for all there are.
      sharded: whether one program computes the global batch, in place of one per device.

    Returns:
      How many.
    """
    return 1 if sharded else (devices or jax.local_device_count()) * jax.process_count()


def on_one_device(like: TrainState) -> TrainState:
    """Where a state lies that is not trained.

    Args:
      like: shapes and types of its arrays.

    Returns:
      The same on the first device, as `Checkpoints.restore` takes it.
    """
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: _shape(x, device), like)


def _shape(x: Any, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


@dataclass(frozen=True)
class DataParallel(Layout):
    """jax.pmap: every device holds the complete state and a share of the batch.

    Attributes:
      devices: how many of this process' devices to use; None for all.
    """

    devices: int | None = None

    @cached_property
    def mesh(self) -> Mesh:
        """This process' devices."""
        return Mesh(np.asarray(jax.local_devices()[: self.devices]), (DATA_AXIS,))

    @property
    def devices_in_all(self) -> int:
        return self.mesh.size * jax.process_count()

    def compile(
        self,
        game: Game,
        *,
        scan_steps: int = 1,
        skip_nonfinite: bool = False,
        dataset: Any = None,
    ) -> CompiledSteps:
        step = make_step(game, DATA_AXIS, skip_nonfinite=skip_nonfinite)
        steps = jax.pmap(
            _scanned(step, scan_steps),
            axis_name=DATA_AXIS,
            # A tuple inside: pmap takes a flat one for the axes of the arrays, and not of the
            # arguments, where a small state makes the numbers of the two equal.
            in_axes=(None, None, 0, (None,)),
            out_axes=(None, None),
            donate_argnums=0,
            devices=None if self.devices is None else _first_of_each_process(self.devices),
        )
        return CompiledSteps(steps, jax.device_put(dataset, self._replicated))

    @property
    def _replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    def place(self, state: TrainState) -> TrainState:
        return jax.device_put(state, self._replicated)

    def like(self, state: TrainState) -> TrainState:
        return jax.tree.map(lambda x: _shape(x, self._replicated), state)

    def feed(self, batches: Any) -> Any:
        count = self.mesh.size

        def put(x: np.ndarray) -> jax.Array:
            shares = x.reshape(x.shape[0], count, -1, *x.shape[2:]).swapaxes(0, 1)
            return jax.device_put(shares, NamedSharding(self.mesh, PartitionSpec(DATA_AXIS)))

        return jax.tree.map(put, batches)

    def gather(self, state: TrainState) -> TrainState:
        return _first_copy(state)


@dataclass(frozen=True)
class FullySharded(Layout):
    """jax.jit over a mesh: parameters, optimizer and averages lie sharded over all devices.

    Attributes:
      devices: how many of each process' devices to use; None for all.
      smallest: arrays of fewer elements stay replicated, as their communication costs more.
    """

    devices: int | None = None
    smallest: int = 2**14

    @cached_property
    def mesh(self) -> Mesh:
        """The devices of every process."""
        return Mesh(np.asarray(_first_of_each_process(self.devices)), (DATA_AXIS,))

    @property
    def devices_in_all(self) -> int:
        return self.mesh.size

    def _sharding(self, x: Any) -> NamedSharding:
        fitting = [a for a, size in enumerate(x.shape) if size % self.mesh.size == 0]
        if x.size < self.smallest or not fitting:
            return NamedSharding(self.mesh, PartitionSpec())
        largest = max(fitting, key=lambda a: x.shape[a])
        return NamedSharding(self.mesh, PartitionSpec(*[None] * largest, DATA_AXIS))

    def compile(
        self,
        game: Game,
        *,
        scan_steps: int = 1,
        skip_nonfinite: bool = False,
        dataset: Any = None,
    ) -> CompiledSteps:
        step = make_step(game, None, skip_nonfinite=skip_nonfinite)

        def pinned(state: TrainState, key: jax.Array, batch: Any) -> tuple[TrainState, StepMetrics]:
            state, metrics = step(state, key, batch)
            shardings = jax.tree.map(self._sharding, state)
            return jax.lax.with_sharding_constraint(state, shardings), metrics

        steps = jax.jit(_scanned(pinned, scan_steps), donate_argnums=0)
        dataset = jax.device_put(dataset, NamedSharding(self.mesh, PartitionSpec()))
        return CompiledSteps(steps, dataset)

    def place(self, state: TrainState) -> TrainState:
        return jax.device_put(state, jax.tree.map(self._sharding, state))

    def like(self, state: TrainState) -> TrainState:
        return jax.tree.map(lambda x: _shape(x, self._sharding(x)), state)

    def feed(self, batches: Any) -> Any:
        sharding = NamedSharding(self.mesh, PartitionSpec(None, DATA_AXIS))

        def put(x: np.ndarray) -> jax.Array:
            return jax.make_array_from_process_local_data(sharding, x)

        return jax.tree.map(put, batches)

    @cached_property
    def _replicate(self) -> Callable[[TrainState], TrainState]:
        return jax.jit(lambda s: s, out_shardings=NamedSharding(self.mesh, PartitionSpec()))

    def gather(self, state: TrainState) -> TrainState:
        return _first_copy(self._replicate(state))
