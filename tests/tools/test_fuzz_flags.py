"""The short version of `python -m tools.fuzz_flags`: every flag, fewer values."""

import importlib
from dataclasses import fields, replace

import pytest

from genjax import limits
from genjax.cli.options import COMMANDS
from genjax.errors import ConfigError
from tools import fuzz_flags

VALUES = ("0", "-1", "nan", "9" * 400, "", "\udcff")


def different():
    """The experiments without those that only have other defaults."""
    builds = {}
    for name in fuzz_flags.experiments():
        builds.setdefault(importlib.import_module(f"experiments.{name}").build, name)
    return list(builds.values())


LONG = {"ddpm_cifar10", "dit", "edm", "flow_cifar10", "gan_fashion", "latent_shapes"}
LONG |= {"consistency", "latent_diffusion", "meanflow", "restore_fashion", "shortcut", "vqvae"}
LONG |= {"classifier", "dcgan_fashion", "pixelcnn", "r3gan", "stylegan", "vdvae"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n in LONG else ()) for n in different()],
)
def test_every_flag_of_an_experiment_is_accepted_or_refused_in_one_line(name, own_sets):
    shared = name == "gan_fashion"  # the flags of run and data are those of all experiments
    counts = fuzz_flags.fuzz([name], own_sets, VALUES if shared else VALUES[:4], sections=shared)
    assert counts.faults == []
    # All have settings of their own but iwae_mnist's, of which few take numbers.
    assert counts.refused > 5
    assert counts.accepted > 0


SIZES = {"channels", "multipliers", "widths", "width", "hidden", "latent", "features", "mixture"}
SIZES |= {"blocks", "depth", "mapping_layers", "encoder_blocks", "decoder_blocks", "groups"}


@pytest.mark.parametrize("name", different())
def test_no_network_is_traced_that_no_machine_could_hold(name):
    config = importlib.import_module(f"experiments.{name}").Config()
    sizes = [f.name for f in fields(config) if f.name in SIZES]
    assert sizes or name == "iwae_mnist"  # which has the network of its paper
    for size in sizes:
        was = getattr(config, size)
        value = (*was[1:], 100_000) if isinstance(was, tuple) else 100_000
        with pytest.raises(ConfigError, match="must be at most"):
            limits.check(replace(config, **{size: value}))


def test_every_flag_of_a_command_is_accepted_or_refused_in_one_line(own_sets):
    counts = fuzz_flags.fuzz(COMMANDS, own_sets, VALUES)
    assert counts.faults == []
    assert counts.tried == counts.accepted + counts.refused > 200


def test_a_fault_is_counted(own_sets, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("no settings")

    monkeypatch.setattr(fuzz_flags, "parse", broken)
    counts = fuzz_flags.fuzz(["replay"], own_sets, ["0"])
    assert counts.faults[0] == "replay '--step=0': ZeroDivisionError: no settings"

    def long(*_, **__):
        raise ConfigError("")

    monkeypatch.setattr(fuzz_flags, "parse", long)
    assert fuzz_flags.fuzz(["replay"], own_sets, ["0"]).accepted == 0


@pytest.mark.parametrize(
    ("words", "names"),
    [([], [*COMMANDS, *fuzz_flags.experiments()]), (["replay", "made"], ["replay", "made"])],
)
def test_the_tool_tries_what_is_named_or_all(words, names, monkeypatch, capsys):
    tried = []

    def fuzz(some, sets):
        tried.extend(some)
        return fuzz_flags.Counts(accepted=1)

    monkeypatch.setattr(fuzz_flags, "fuzz", fuzz)
    monkeypatch.setattr("sys.argv", ["fuzz_flags", *words])
    with pytest.raises(SystemExit) as stop:
        fuzz_flags.main()
    assert stop.value.code == 0
    assert tried == names


def test_the_tool_refuses_a_name_that_it_does_not_know(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["fuzz_flags", "replay", "nosuch"])
    with pytest.raises(SystemExit) as stop:
        fuzz_flags.main()
    assert stop.value.code == 2
    assert "error: nosuch: there are sample, " in capsys.readouterr().err
