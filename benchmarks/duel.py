"""A case played out: children built, checked against each other, timed in turns."""

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import spread
from benchmarks.cases import Case, LucidUNet, Player, UNet
from benchmarks.children import ChildError, Handle, Machine

# Thread pools that still spin after their work would slow the next child.
SETTLE = 0.1


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
    wanted = ["torch", *([needed] if needed else [])] if player.library == "torch" else ["jax"]
    return next((name for name in wanted if importlib.util.find_spec(name) is None), None)


def play(case: Case, machine: Machine, plan: Plan, ways: set[str] | None) -> dict[str, Any]:
    """The results of a case, as JSON has them."""
    say(f"{case.name}: {case.title}, batch {case.batch}")
    result: dict[str, Any] = {
        "name": case.name, "title": case.title, "batch": case.batch, "unit": case.unit,
        "players": {}, "left_out": {},
    }  # fmt: skip
    with ExitStack() as stack:
        children: dict[str, Handle] = {}
        for player in case.players:
            if player.library == "torch" and ways is not None and player.way not in ways:
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
        _count(result, children)
        _agree(result, children, machine.caches / "exchange.npz")
        _time(result, children, plan)
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
        difference = max(_difference(expected[name], found[name]) for name in expected)
        result["differences"][child.player.name] = difference
        say(f"  {child.player.name} differs by {difference:.1e} at the same weights and noise")


def _difference(ours: Any, theirs: Any) -> float:
    a, b = (x if isinstance(x, list) else [x] for x in (ours, theirs))
    scale = max(abs(x) for x in a)
    return max(abs(x - y) for x, y in zip(a, b, strict=True)) / scale


def _time(result: dict[str, Any], children: dict[str, Handle], plan: Plan) -> None:
    units, turn = {}, 0.0
    for name, child in children.items():
        child.ask("run", units=1)
        seconds = child.ask("run", units=1)["seconds"]
        units[name] = max(1, round(plan.seconds / seconds))
        turn += units[name] * seconds + SETTLE
        child.ask("watch")
    rounds = max(min(plan.rounds, 3), min(plan.rounds, int(plan.limit / max(turn, 1e-9))))
    times: dict[str, list[float]] = {name: [] for name in children}
    for number in range(rounds):
        for name in _order(list(children), number):
            time.sleep(SETTLE)
            times[name].append(children[name].ask("run", units=units[name])["seconds"])
        medians = (f"{n} {1e3 * t[-1]:.4g} ms" for n, t in times.items())
        say(f"  round {number + 1} of {rounds}: {'; '.join(medians)}")
    for name, child in children.items():
        told = result["players"][name]
        told |= {"times": times[name], "seconds": spread.summary(times[name])}
        told |= child.ask("memory")
    result["ratios"] = {
        ours: {
            theirs: spread.ratio(times[theirs], times[ours])
            for theirs, other in children.items()
            if other.player.library == "torch"
        }
        for ours, child in children.items()
        if child.player.library == "genjax"
    }


def _order(names: list[str], number: int) -> Iterator[str]:
    """A B C, C B A, …: a drift of the machine's speed favours nobody."""
    return iter(names if number % 2 == 0 else names[::-1])
