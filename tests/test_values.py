"""Schedules, samplers of times, players and settings are values: nothing can change them."""

import dataclasses
import importlib
import pkgutil

import pytest

from genjax import diffusion, edit, evaluate, losses, over_batch, train
from tests.defaults import defaults


def dataclasses_of(package):
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(info.name)
        for value in vars(module).values():
            if dataclasses.is_dataclass(value) and value.__module__ == module.__name__:
                yield value


@pytest.mark.parametrize("package", [losses, diffusion, train])
def test_every_dataclass_is_frozen(package):
    found = list(dataclasses_of(package))
    assert found
    assert [c for c in found if not c.__dataclass_params__.frozen] == []


SWITCHED_ON = {
    "jpeg.compressed.subsampling",
    "operators.jpeg.subsampling",
    "operator.Operator.linear",
    "solver_loop.solver_loop.linear",
}


def test_switches_are_off_but_for_those_named_here_and_every_axis_is_that_of_the_data():
    found = [
        (f"{name}.{parameter}", value)
        for room in (losses, diffusion, edit)
        for (name, parameter), value in defaults(room).items()
    ]
    assert {path for path, value in found if value is True} == SWITCHED_ON
    switches = {path.rpartition(".")[2] for path, value in found if value is False}
    assert switches >= {"trajectory", "log_snr", "strict"}
    axes = [value for path, value in found if path.endswith(".axis_name")]
    assert len(axes) > 20
    assert set(axes) == {over_batch.DATA_AXIS}


def test_every_seed_of_an_evaluation_is_0_unless_given():
    found = [value for (_, name), value in defaults(evaluate).items() if name == "seed"]
    assert len(found) > 5
    assert set(found) == {0}
