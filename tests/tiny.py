"""A tiny run of an experiment, trained in the test's own process."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from genjax.cli.commands import Experiment
from genjax.cli.startup import printed_log


def trained(experiment: ModuleType, config: Any, directory: Path, sets: Path, **run: Any) -> Path:
    """Trains in a directory, which it returns, on sets prepared elsewhere; run: more settings."""
    run = replace(config.run, dir=str(directory), devices=1, **run)
    config = replace(config, run=run, data=replace(config.data, dir=str(sets)))
    name = experiment.__name__.rpartition(".")[2]
    with printed_log():
        Experiment(name, "", config, experiment.build, "").train(config)
    return directory
