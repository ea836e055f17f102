"""Schedules, samplers of times, players and settings are values: nothing can change them."""

import dataclasses
import importlib
import inspect
import pkgutil

import pytest

from genjax import diffusion, edit, evaluate, losses, over_batch, train


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


def defaults_of(package):
    """(module.function.parameter, default) of the public functions, classes and their methods."""
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
                continue
            if inspect.isclass(value) and issubclass(value, Exception):
                continue
            members = vars(value).items() if inspect.isclass(value) else ()
            public = {k: f for k, f in members if not k.startswith("_") and inspect.isfunction(f)}
            for path, each in [(name, value), *((f"{name}.{k}", f) for k, f in public.items())]:
                if callable(each):
                    for parameter in inspect.signature(each).parameters.values():
                        yield f"{info.name}.{path}.{parameter.name}", parameter.default


SWITCHED_ON = {
    "genjax.edit.jpeg.compressed.subsampling",
    "genjax.edit.operators.jpeg.subsampling",
    "genjax.edit.operator.Operator.linear",
    "genjax.edit.solver_loop.solver_loop.linear",
}


def test_switches_are_off_but_for_those_named_here_and_every_axis_is_that_of_the_data():
    found = [row for room in (losses, diffusion, edit) for row in defaults_of(room)]
    assert {path for path, value in found if value is True} == SWITCHED_ON
    switches = {path.rpartition(".")[2] for path, value in found if value is False}
    assert switches >= {"trajectory", "log_snr", "strict"}
    axes = [value for path, value in found if path.endswith(".axis_name")]
    assert len(axes) > 20
    assert set(axes) == {over_batch.DATA_AXIS}


def test_every_seed_of_an_evaluation_is_0_unless_given():
    given = {path: value for path, value in defaults_of(evaluate) if path.endswith(".seed")}
    found = [value for value in given.values() if value is not inspect.Parameter.empty]
    assert len(found) > 5
    assert set(found) == {0}
