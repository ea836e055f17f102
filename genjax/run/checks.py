"""What a run checks before its first step: that its functions can be traced and its arrays fit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from genjax.errors import ConfigError, GenjaxError
from genjax.over_batch import DATA_AXIS
from genjax.run.family import Family, stages, state_shapes
from genjax.run.sampling import CHUNK
from genjax.run.settings import Settings
from genjax.train.game import Player
from genjax.train.layout import DataParallel, FullySharded, Layout, check, shares
from genjax.train.state import TrainState

_BUGS = (NameError, AttributeError, ImportError)  # of a family: their traceback is of more use


def layout_of(settings: Settings, family: Family, directory: Path) -> Layout:
    """How the state lies over the devices that the settings name.

    Args:
      settings: the run's.
      family: the family, whose losses say whether a batch may be divided so.
      directory: of the run.

    Returns:
      The layout.

    Raises:
      ConfigError: where there are fewer devices, or the batch cannot be divided among them.
    """
    if (settings.devices or 0) > jax.local_device_count():
        raise ConfigError(
            f"--run.devices {settings.devices}: there are {jax.local_device_count()} here"
        )
    layout: Layout = (FullySharded if settings.sharded else DataParallel)(settings.devices)
    for stage, _ in stages(family, directory):
        check(stage.game, settings.batch, layout.devices_in_all)
    return layout


def check_family(family: Family, settings: Settings, batch: Any, held_out: int) -> None:
    """Traces what the run will do first after hours: it computes and compiles nothing.

    Losses, sampling, validation, encoding and reconstruction are traced with the shapes of the run,
    so that what would fail at the first image fails before the first step.

    Args:
      family: the family.
      settings: the run's.
      batch: a train batch [B, ...] of some B, or the shapes and types of its arrays.
      held_out: how many images there are to validate on.

    Raises:
      ConfigError: where one of them cannot be traced, returns another shape than it must, or the
        state does not fit into memory.
    """
    if family.before:
        check_family(family.before, settings, batch, held_out)
    state = state_shapes(family)
    _check_memory(state, family, settings, batch)
    for what, trace in _traces(family, state, settings, batch, held_out):
        try:
            trace()
        except Exception as error:
            if isinstance(error, (GenjaxError, *_BUGS)):
                raise
            first = (str(error).strip() or type(error).__name__).partition("\n")[0]
            raise ConfigError(f"with these settings {what} fails: {first}") from error


def _traces(
    family: Family, state: TrainState, settings: Settings, batch: Any, held_out: int
) -> Iterator[tuple[str, Callable[[], None]]]:
    def images(n: int) -> Any:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((n, *x.shape[1:]), x.dtype), batch)

    devices = shares(settings.devices, settings.sharded)

    def loss(name: str, n: int) -> None:
        value = _loss(family.game[name], state, _keys(n), images(n), devices)
        _expect(value, (), f"the loss of {name!r}")

    def generate() -> None:
        if family.generate is None:
            return
        n = min(CHUNK, settings.samples)
        latents = jax.eval_shape(lambda key: family.latents(key, n), jax.random.key(0))
        label = None if family.classes is None else jax.ShapeDtypeStruct((n,), np.int32)
        made = jax.eval_shape(family.generate, state, _keys(n), latents, label)
        _expect(made, (n, *batch["image"].shape[1:]), "generate")

    def validate() -> None:
        n = min(settings.batch, held_out)
        if family.validate is not None:
            for name, score in jax.eval_shape(family.validate, state, _keys(n), images(n)).items():
                _expect(score, (n,), f"the score {name!r}")

    def profile() -> None:
        if family.profile is not None:
            n = min(settings.batch, held_out)
            x, y = jax.eval_shape(family.profile.values, state, _keys(n), images(n))
            if x.ndim != 1 or x.shape != y.shape:
                raise ConfigError(f"a profile is two arrays [n], not {x.shape} and {y.shape}")

    def reconstruct() -> None:
        n = min(settings.batch, held_out, 32)
        shown = images(n)["image"]
        if family.observe is not None:
            seen = jax.eval_shape(family.observe, _keys(n), shown)
            _expect(seen, shown.shape, "observe")
        if family.reconstruct is not None:
            made = jax.eval_shape(family.reconstruct, state, _keys(n), shown)
            _expect(made, shown.shape, "reconstruct")
        elif family.encode is not None and family.generate is not None:
            latents = jax.eval_shape(family.encode, state, shown)
            label = None if family.classes is None else jax.ShapeDtypeStruct((n,), np.int32)
            made = jax.eval_shape(family.generate, state, _keys(n), latents, label)
            _expect(made, shown.shape, "reconstruct")

    for name, player in family.game.items():
        n = settings.batch // (devices * player.turns * player.microbatches)
        at_once = f" on {n:,} images at once, of --run.batch {settings.batch:,}"
        yield f"training{at_once if n < settings.batch else ''}", partial(loss, name, n)
    yield "sampling", generate
    yield "validation", validate
    yield "the profile", profile
    yield "reconstruction", reconstruct


def _loss(player: Player, state: TrainState, keys: Any, batch: Any, devices: int) -> Any:
    """The shape of a loss on the images that a device's step shows it at once."""

    def loss(keys: Any, batch: Any, params: Any, state: Any) -> Any:
        return player.loss(params, state, keys, batch)[0]

    if devices == 1:
        return jax.eval_shape(loss, keys, batch, state.params, state)
    each = jax.vmap(loss, (0, 0, None, None), axis_name=DATA_AXIS)
    shares = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((devices, *x.shape), x.dtype), (keys, batch)
    )
    return jax.eval_shape(lambda *args: each(*args)[0], *shares, state.params, state)


def _keys(n: int) -> Any:
    return jax.eval_shape(lambda: jax.random.split(jax.random.key(0), n))


def _expect(array: Any, shape: Sequence[int], what: str) -> None:
    if array.shape != tuple(shape):
        raise ConfigError(f"{what} returns {array.shape}, where {tuple(shape)} is due")


def _check_memory(state: TrainState, family: Family, settings: Settings, batch: Any) -> None:
    def drawn(key: jax.Array) -> Any:
        return family.latents(key, settings.samples) if family.generate else None

    latents = jax.eval_shape(drawn, jax.random.key(0))
    here = jax.local_device_count()
    parts = {
        "the network": _bytes(state) // (jax.device_count() if settings.sharded else 1),
        f"--run.batch {settings.batch:,}": _bytes(_row(batch)) * settings.batch // here,
        f"--run.samples {settings.samples:,}": _bytes(latents) + 4 * settings.samples,
    }
    memory = device_memory()
    for what, needed in parts.items():
        if memory and needed > memory:
            raise ConfigError(
                f"{what} takes {needed / 1e9:,.0f} GB, and there are {memory / 1e9:,.0f} GB here"
            )


def _row(batch: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), batch)


def _bytes(tree: Any) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def device_memory() -> int | None:
    """How much memory a device has.

    Returns:
      Bytes, of a CPU's devices an equal share of the machine's; None where that is not known.
    """
    if jax.default_backend() != "cpu":
        return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not on this system
        return None
    return whole // jax.local_device_count()
