"""Schedules, samplers of times, players and settings are values: nothing can change them."""

import dataclasses
import importlib
import pkgutil

import pytest

import genjax.diffusion
import genjax.losses
import genjax.train


def dataclasses_of(package):
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(info.name)
        for value in vars(module).values():
            if dataclasses.is_dataclass(value) and value.__module__ == module.__name__:
                yield value


@pytest.mark.parametrize("package", [genjax.losses, genjax.diffusion, genjax.train])
def test_every_dataclass_is_frozen(package):
    found = list(dataclasses_of(package))
    assert found
    assert [c for c in found if not c.__dataclass_params__.frozen] == []
