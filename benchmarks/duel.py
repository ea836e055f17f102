"""A case played out: children built, checked against each other, timed in turns."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import spread
from benchmarks.cases import Case, LucidUNet, Player, UNet
from benchmarks.children import ChildError, Handle, Machine
from benchmarks.idleness import Idleness

# Rounding moves a gradient's norm by up to 3e-4; other settings by far more than this.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Plan:
    """rounds: how often each child has its turn, at most; seconds: of a turn, about; limit: of all
    turns of a case, about (three rounds at least).
    """

    rounds: int = 9
    seconds: float = 0.8
    limit: float = 90.0


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def missing(case: Case, player: Player) -> str | None:
    """The peer's package that is not installed."""
    needed = {LucidUNet: "denoising_diffusion_pytorch", UNet: "diffusers"}.get(type(case.network))
    wanted = ["torch", *([needed] if needed else [])] if player.library == "torch" else []
    return next((name for name in wanted if importlib.util.find_spec(name) is None), None)


def play(case: Case, machine: Machine, plan: Plan, ways: set[str]) -> dict[str, Any] | None:
    """The results of a case, as JSON has them; None where they cannot be had."""
    say(f"{case.name}: {case.title}, batch {case.batch}")
    result: dict[str, Any] = {
        "name": case.name, "title": case.title, "batch": case.batch, "unit": case.unit,
        "players": {}, "left_out": {},
    }  # fmt: skip
    with ExitStack() as stack:
        children: dict[str, Handle] = {}
        for player in case.players:
            if case.kind != "feeding" and player.library == "torch" and player.way not in ways:
                continue
            if name := missing(case, player):
                _leave_out(result, player.name, f"{name} is not installed")
                continue
            child = Handle(machine, case, player)
            stack.callback(child.stop)
            try:
                result["players"][player.name] = told = child.ask("build")
            except ChildError as error:
                _leave_out(result, player.name, str(error))
                continue
            children[player.name] = child
            say(f"  {player.name}: first {case.unit} after {told['first']:.1f} s")
        try:
            # Checks come last: what they compile would count as the training's memory.
            _time(result, children, plan)
            if case.kind != "feeding":
                _count(result, children)
                _agree(result, children, machine.caches / "exchange.npz")
        except ChildError as error:
            say(f"{case.name} left out: {error}")
            return None
    return result


def _leave_out(result: dict[str, Any], name: str, why: str) -> None:
    say(f"  {name} left out: {why}")
    result["left_out"][name] = why
    result["players"].pop(name, None)


def _first(children: dict[str, Handle], fits: Callable[[Player], bool]) -> Handle | None:
    return next((child for child in children.values() if fits(child.player)), None)


def _ours(children: dict[str, Handle]) -> Handle | None:
    """The child of genjax with one step a dispatch, if there is one."""
    single = _first(children, lambda p: p.library == "genjax" and p.dispatch == 1)
    return single or _first(children, lambda p: p.library == "genjax")


def _eager(children: dict[str, Handle]) -> Handle | None:
    return _first(children, lambda p: p.way == "eager")


def _count(result: dict[str, Any], children: dict[str, Handle]) -> None:
    """Parameters and operations of both libraries, and whether they are the same."""
    result["flops"] = {
        name: child.ask("flops")["flops"]
        for name, child in (("genjax", _ours(children)), ("torch", _eager(children)))
        if child
    }
    counts = {told["parameters"] for told in result["players"].values()}
    result["same_parameters"] = len(counts) == 1
    if len(counts) > 1:
        say(f"  NOT A PAIR: the players have {sorted(counts)} parameters")
    products = [counted["products"] for counted in result["flops"].values()]
    result["flops_ratio"] = products[-1] / products[0] if len(products) == 2 else None


def _agree(result: dict[str, Any], children: dict[str, Handle], path: Path) -> None:
    """The largest relative difference of what they compute from the same weights and noise."""
    ours, result["differences"] = _ours(children), {}
    theirs = [c for c in children.values() if c.player.way in ("eager", "channels-last")]
    if not ours or not theirs:
        return
    expected = ours.ask("values", path=str(path))["values"]
    for child in theirs if expected else ():
        try:
            found = child.ask("values", path=str(path))["values"]
        except ChildError as error:
            say(f"  NOT A PAIR: {error}")
            result["differences"][child.player.name] = None
            continue
        difference = max(relative_difference(expected[name], found[name]) for name in expected)
        result["differences"][child.player.name] = difference
        verdict = "" if difference < TOLERANCE else "NOT A PAIR: "
        say(f"  {verdict}{child.player.name} differs by {difference:.1e} at the same weights")


def relative_difference(ours: Any, theirs: Any) -> float:
    """max |ours − theirs| / max |ours| of two numbers or two lists."""
    a, b = (x if isinstance(x, list) else [x] for x in (ours, theirs))
    scale = max(abs(x) for x in a)
    return max(abs(x - y) for x, y in zip(a, b, strict=True)) / scale


def _time(result: dict[str, Any], children: dict[str, Handle], plan: Plan) -> None:
    units, turn = {}, 0.0
    for name, child in children.items():
        child.ask("run", units=1)
        seconds = child.ask("run", units=1)["seconds"]
        units[name] = max(1, round(plan.seconds / seconds))
        turn += units[name] * seconds
        child.ask("watch")
    rounds = max(min(plan.rounds, 3), min(plan.rounds, int(plan.limit / max(turn, 1e-9))))
    times: dict[str, list[float]] = {name: [] for name in children}
    idleness = Idleness()
    for number in range(rounds):
        for name in _order(list(children), number):
            idleness.settle()
            times[name].append(children[name].ask("run", units=units[name])["seconds"])
        medians = (f"{n} {1e3 * t[-1]:.4g} ms" for n, t in times.items())
        say(f"  round {number + 1} of {rounds}: {'; '.join(medians)}")
    for name, child in children.items():
        told = result["players"][name]
        told |= {"times": times[name], "seconds": spread.summary(times[name])}
        told |= child.ask("memory")
    result["busy"] = idleness.busy()
    if result["busy"] > 0.05:
        say(f"  other processes used {result['busy']:.0%} of the cores: not to be relied on")
    result["ratios"] = {
        ours: {
            theirs: spread.ratio(times[theirs], times[ours])
            for theirs, other in children.items()
            if other.player.library != "genjax"
        }
        for ours, child in children.items()
        if child.player.library == "genjax"
    }


def _order(names: list[str], number: int) -> Iterator[str]:
    """A B C, C B A, …: a drift of the machine's speed favours nobody."""
    return iter(names if number % 2 == 0 else names[::-1])
