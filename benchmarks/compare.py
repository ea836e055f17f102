"""One case: its workers built, timed in turns, and checked against each other."""

import importlib.util
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import spread
from benchmarks.cases import Case, Contender, LucidUNet, UNet
from benchmarks.idleness import Idleness
from benchmarks.workers import Machine, WorkerError, WorkerProcess

# Rounding changes a gradient's norm by up to 3e-4, wrong settings by far more than this.
TOLERANCE = 1e-3

Workers = dict[str, WorkerProcess]  # by their contenders' names


@dataclass(frozen=True)
class Plan:
    """How long to time.

    Attributes:
      rounds: turns per worker, at most.
      seconds: approximate length of a turn.
      limit: approximate seconds of all turns of a case, which has at least three rounds.
    """

    rounds: int = 9
    seconds: float = 0.8
    limit: float = 90.0


def log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def missing(case: Case, contender: Contender) -> str | None:
    """The package that a contender needs and that is not installed, if any."""
    needed = {LucidUNet: "denoising_diffusion_pytorch", UNet: "diffusers"}.get(type(case.network))
    wanted = ["torch", *([needed] if needed else [])] if contender.library == "torch" else []
    return next((name for name in wanted if importlib.util.find_spec(name) is None), None)


def run_case(case: Case, machine: Machine, plan: Plan, ways: set[str]) -> dict[str, Any] | None:
    """Returns the results of a case, ready for JSON; None if it could not be timed."""
    (result,) = run_cases([case], machine, plan, ways)
    return result


def run_cases(
    cases: Sequence[Case], machine: Machine, plan: Plan, ways: set[str], deadline: float = math.inf
) -> Iterator[dict[str, Any] | None]:
    """Yields the results of each case as `run_case`; on a GPU all are built at the same time.

    There compilers take most of the time. deadline: of `time.monotonic`, for what is built.
    """
    with ExitStack() as stack:
        results = [_new(case) for case in cases]
        built: list[Workers] = [{} for _ in cases]
        pool = stack.enter_context(ThreadPoolExecutor(32 if machine.gpu else 1))
        jobs = []
        for case, result, workers in zip(cases, results, built, strict=True):
            for contender in _contenders(case, ways, result):
                worker = WorkerProcess(machine, case, contender)
                stack.callback(worker.stop)
                jobs.append(pool.submit(_build, result, workers, worker, deadline))
        for job in jobs:
            job.result()
        for case, result, workers in zip(cases, results, built, strict=True):
            yield _measured(case, result, workers, machine, plan)
            for worker in workers.values():
                worker.stop()


def _new(case: Case) -> dict[str, Any]:
    return {
        "name": case.name, "title": case.title, "batch": case.batch, "unit": case.unit,
        "contenders": {}, "skipped": {},
    }  # fmt: skip


def _contenders(case: Case, ways: set[str], result: dict[str, Any]) -> Iterator[Contender]:
    """Those that were asked for and can run."""
    for contender in case.contenders:
        if case.kind != "feeding" and contender.library == "torch" and contender.way not in ways:
            continue
        if name := missing(case, contender):
            _skip(result, contender.name, f"{name} is not installed")
            continue
        yield contender


def _build(
    result: dict[str, Any], workers: Workers, worker: WorkerProcess, deadline: float
) -> None:
    name, unit = worker.contender.name, result["unit"]
    try:
        measured = worker.ask("build", seconds=max(deadline - time.monotonic(), 1))
        worker.ask("rest")
    except WorkerError as error:
        _skip(result, name, str(error))
        return
    result["contenders"][name], workers[name] = measured, worker
    log(f"  {result['name']}, {name}: first {unit} after {measured['first']:.1f} s")


def _measured(
    case: Case, result: dict[str, Any], workers: Workers, machine: Machine, plan: Plan
) -> dict[str, Any] | None:
    log(f"{case.name}: {case.title}, batch {case.batch}")
    workers = {c.name: workers[c.name] for c in case.contenders if c.name in workers}
    result["contenders"] = {name: result["contenders"][name] for name in workers}
    try:
        _time(result, workers, plan)
    except WorkerError as error:
        log(f"{case.name} skipped: {error}")
        return None
    # Checks come last: the memory of what they compile would count as the training's.
    result |= {"flops": {}, "flops_ratio": None, "differences": {}}
    checks: list[Callable[[], None]] = []
    if case.kind != "feeding":
        checks.append(lambda: _count(result, workers))
    if machine.gpu:
        checks.append(lambda: _watch_gpu(result, workers))
    elif case.kind != "feeding":  # on a GPU each would compile for a minute
        checks.append(lambda: _agree(result, workers, machine.caches / "exchange.npz"))
    for check in checks:
        try:
            check()
        except WorkerError as error:
            log(f"  not checked: {error}")
    return result


def _watch_gpu(result: dict[str, Any], workers: Workers) -> None:
    for name, worker in workers.items():
        result["contenders"][name] |= worker.ask("busy")


def _skip(result: dict[str, Any], name: str, why: str) -> None:
    log(f"  {name} skipped: {why}")
    result["skipped"][name] = why
    result["contenders"].pop(name, None)


def _first(workers: Workers, fits: Callable[[Contender], bool]) -> WorkerProcess | None:
    return next((worker for worker in workers.values() if fits(worker.contender)), None)


def _ours(workers: Workers) -> WorkerProcess | None:
    """genjax's worker, that of one step per dispatch if there is one."""
    single = _first(workers, lambda p: p.library == "genjax" and p.scan_steps == 1)
    return single or _first(workers, lambda p: p.library == "genjax")


def _eager(workers: Workers) -> WorkerProcess | None:
    return _first(workers, lambda p: p.way == "eager")


def _count(result: dict[str, Any], workers: Workers) -> None:
    """Counts parameters and operations of both libraries, and compares them."""
    counts = {measured["parameters"] for measured in result["contenders"].values()}
    result["same_parameters"] = len(counts) == 1
    if len(counts) > 1:
        log(f"  NOT A PAIR: the contenders have {sorted(counts)} parameters")
    for name, worker in (("genjax", _ours(workers)), ("torch", _eager(workers))):
        if worker:
            result["flops"][name] = worker.ask("flops")["flops"]
    products = [counted["products"] for counted in result["flops"].values()]
    result["flops_ratio"] = products[-1] / products[0] if len(products) == 2 else None


def _agree(result: dict[str, Any], workers: Workers, path: Path) -> None:
    """Measures the largest relative difference of results from equal weights and noise."""
    ours = _ours(workers)
    theirs = [c for c in workers.values() if c.contender.way in ("eager", "channels-last")]
    if not ours or not theirs:
        return
    expected = ours.ask("values", path=str(path))["values"]
    for worker in theirs if expected else ():
        try:
            found = worker.ask("values", path=str(path))["values"]
        except WorkerError as error:
            log(f"  NOT A PAIR: {error}")
            result["differences"][worker.contender.name] = None
            continue
        difference = max(relative_difference(expected[name], found[name]) for name in expected)
        result["differences"][worker.contender.name] = difference
        verdict = "" if difference < TOLERANCE else "NOT A PAIR: "
        log(f"  {verdict}{worker.contender.name} differs by {difference:.1e} at the same weights")


def relative_difference(ours: Any, theirs: Any) -> float:
    """max |ours − theirs| / max |ours| of two numbers or two lists."""
    a, b = (x if isinstance(x, list) else [x] for x in (ours, theirs))
    scale = max(abs(x) for x in a)
    return max(abs(x - y) for x, y in zip(a, b, strict=True)) / scale


def _time(result: dict[str, Any], workers: Workers, plan: Plan) -> None:
    units, turn = {}, 0.0
    for name, worker in workers.items():
        worker.ask("run", units=1)
        seconds = worker.ask("run", units=1)["seconds"]
        units[name] = max(1, round(plan.seconds / seconds))
        turn += units[name] * seconds
        worker.ask("rest")
        worker.ask("watch")
    rounds = max(min(plan.rounds, 3), min(plan.rounds, int(plan.limit / max(turn, 1e-9))))
    times: dict[str, list[float]] = {name: [] for name in workers}
    idleness = Idleness()
    for number in range(rounds):
        for name in _order(list(workers), number):
            idleness.settle()
            workers[name].ask("wake")
            times[name].append(workers[name].ask("run", units=units[name])["seconds"])
            workers[name].ask("rest")
        medians = (f"{n} {1e3 * t[-1]:.4g} ms" for n, t in times.items())
        log(f"  round {number + 1} of {rounds}: {'; '.join(medians)}")
    for name, worker in workers.items():
        measured = result["contenders"][name]
        measured |= {"times": times[name], "seconds": spread.summary(times[name])}
        measured |= worker.ask("memory")
    result["busy"] = idleness.busy()
    if result["busy"] > 0.05:
        log(f"  other processes used {result['busy']:.0%} of the cores: unreliable")
    result["ratios"] = {
        ours: {
            theirs: spread.ratio(times[theirs], times[ours])
            for theirs, other in workers.items()
            if other.contender.library != "genjax"
        }
        for ours, worker in workers.items()
        if worker.contender.library == "genjax"
    }


def _order(names: list[str], number: int) -> Iterator[str]:
    """A B C, C B A, …: a drift of the machine's speed favours no contender."""
    return iter(names if number % 2 == 0 else names[::-1])
