"""docs/performance.md from a run's results."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES
from benchmarks.compare import TOLERANCE

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "performance.md"
BUSY = 0.05
BETTER = ("torch eager", "torch channels-last")
COMMAND = "`python -m experiments.ddpm_fashion`, no flag set; PyTorch: the same network"
FIRST_STEP = {"genjax, cold cache": 12, "genjax, warm cache": 5}  # seconds wanted
MEMORY = 1.3  # of PyTorch eager's, at most

HOW = """\
Each contender is a process of its own, pinned to the same cores and the same number of threads,
and works only in its turn: A B C, C B A, … A *ratio* is PyTorch's time over genjax's in the same
round, the median over the rounds, with a 95 % bootstrap interval: **above 1 genjax is faster**.
Training is forward, backward, Adam and the moving average of the parameters, by the experiments'
own train step (`genjax.train.layout.DataParallel`) and settings (`genjax.cli.startup`: an option
of XLA, memory kept), against PyTorch's fused Adam and multi-tensor average as it comes. Both have
equal parameters and, given the same weights and noise, equal losses, gradient norms or drawn
pixels: the largest relative difference is in the table. *Wanted* is the ratio to the better of
eager and channels-last. Operations are counted by PyTorch's and by genjax's jaxpr, convolutions
and matrix products only; genjax convolves doubled images in 4/9 of the work, and trains a GAN's
generator without the critic's weight gradients. GFLOP/s are PyTorch's count over each one's time.
Memory is the most that the process held in RAM while it was timed, less what it held after its
imports; over 1.3 of PyTorch eager's is a miss, in bold.
"""

NOTES = """\
What was learnt from these and earlier runs stands in the notes: [XLA on a CPU](notes/xla_cpu.md),
[memory](notes/memory.md), [the first step](notes/start.md), [measuring](notes/measuring.md),
[GPU](notes/gpu.md).
"""


def write(results: dict[str, Any], gpu: str) -> None:
    """gpu: the section of `gpu_page`."""
    PAGE.write_text(text(results, gpu))


def text(results: dict[str, Any], gpu: str = "") -> str:
    head = ["# Speed", "", "<!-- Written by `python -m benchmarks --write`. -->", ""]
    parts = [_environment(results), HOW, _ratios(results), _details(results)]
    parts += [_feeding(results), first_step(results, COMMAND, FIRST_STEP), gpu, NOTES]
    return "\n".join(head) + "\n".join(part for part in parts if part)


def _environment(results: dict[str, Any]) -> str:
    given = results["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in given["versions"].items())
    kind = "bfloat16" if given.get("bfloat16") else "float32"
    device = given["gpu"] or f"{given['cpu']}, {given['cores']} cores"
    changed = " with uncommitted changes" if given["changed"] else ""
    lines = [
        f"Measured {given['date']} on {device}, {given['system']}, Python {given['python']}, "
        f"in {kind}, at commit {given['commit']}{changed}:",
        *("", f"    {given['command']}", "", f"{versions}."),
    ]
    if peak := results.get("peak"):
        rates = ", ".join(f"{rate / 1e9:,.0f} by {name}" for name, rate in peak.items())
        lines.append(f"Matrix multiplication, {kind}: {rates} GFLOP/s; the better is the peak.")
    busy = max((case["busy"] for case in results["cases"]), default=0.0)
    if busy > BUSY:
        lines += [
            "",
            f"**Other work took up to {busy:.0%} of the cores: these timings are unreliable.**",
        ]
    return "\n".join([*lines, ""])


def _compared(results: dict[str, Any]) -> list[dict[str, Any]]:
    return [case for case in results["cases"] if case["unit"] != "image"]


def _ratios(results: dict[str, Any]) -> str:
    rows = [
        "| | | genjax, ms | to eager | to channels-last | to compile | difference | wanted | |",
        "|" + "---|" * 9,
    ]
    for case in _compared(results):
        for name, against in case["ratios"].items():
            cells = [title(case), name.removeprefix("genjax").removeprefix(", ")]
            cells.append(milliseconds(case["contenders"][name]["seconds"]["median"]))
            cells += [
                _ratio(against.get(f"torch {way}")) for way in ("eager", "channels-last", "compile")
            ]
            rows.append(row([*cells, _agreement(case), *_verdict(case, against)]))
    return "\n".join(["## Ratios", "", *rows, ""]) if len(rows) > 2 else ""


def _verdict(case: dict[str, Any], against: dict[str, dict[str, float]]) -> tuple[str, str]:
    wanted = next((c.wanted for c in CASES if c.name == case["name"]), None)
    found = [against[way]["median"] for way in BETTER if way in against]
    return judged(wanted, lambda bound: min(found) >= bound) if found else ("", "")


def judged(wanted: float | None, reached: Callable[[float], bool]) -> tuple[str, str]:
    if wanted is None:
        return "", ""
    return f"{wanted:g}", "reached" if reached(wanted) else "**miss**"


def _agreement(case: dict[str, Any]) -> str:
    if not case["same_parameters"]:
        return "**not a pair: parameters differ**"
    differences = case["differences"].values()
    if any(d is None or d > TOLERANCE for d in differences):
        return "**not a pair: values differ**"
    return f"{max(differences):.0e}" if differences else "not compared"


def _details(results: dict[str, Any]) -> str:
    rows = [
        "| | | ms | quartiles | GFLOP/s | of peak | MiB | of eager's | first, s |",
        "|" + "---|" * 9,
    ]
    peak = max(results.get("peak", {}).values(), default=None)
    for case in _compared(results):
        counted = case["flops"].get("torch", case["flops"].get("genjax", {})).get("products")
        for name, measured in case["contenders"].items():
            seconds = measured["seconds"]
            rate = counted / seconds["median"] if counted else None
            rows.append(
                row(
                    [
                        title(case),
                        name,
                        milliseconds(seconds["median"]),
                        f"{milliseconds(seconds['q1'])} to {milliseconds(seconds['q3'])}",
                        f"{rate / 1e9:,.0f}" if rate else "",
                        f"{rate / peak:.0%}" if rate and peak else "",
                        f"{measured['mib']:,.0f}",
                        _memory(measured, case["contenders"].get("torch eager")),
                        f"{measured['init'] + measured['first']:.1f}",
                    ]
                )
            )
    counts = [
        f"- {title(case)}: {next(iter(case['contenders'].values()))['parameters']:,} parameters; "
        + ", ".join(
            f"{name} {counted['products'] / 1e9:,.2f}"
            + (
                f" (XLA's cost analysis, all operations, {counted['xla'] / 1e9:,.2f})"
                if "xla" in counted
                else ""
            )
            for name, counted in case["flops"].items()
        )
        + f" GFLOP per {case['unit']}"
        for case in _compared(results)
        if case["contenders"]
    ]
    skipped = [
        f"- {title(case)}: {name} skipped: {why}"
        for case in results["cases"]
        for name, why in case["skipped"].items()
    ]
    return "\n".join(["## Times, rates and memory", "", *rows, "", *counts, *skipped, ""])


def _memory(measured: dict[str, Any], eager: dict[str, Any] | None) -> str:
    if eager is None or measured is eager:
        return ""
    ratio = measured["mib"] / eager["mib"]
    return f"{ratio:.2f}" if ratio <= MEMORY else f"**{ratio:.2f}**"


def _feeding(results: dict[str, Any]) -> str:
    rows = [
        row(
            [
                title(case),
                name,
                f"{1 / measured['seconds']['median']:,.0f}",
                f"{measured['mib']:,.0f}",
            ]
        )
        for case in results["cases"]
        if case["unit"] == "image"
        for name, measured in case["contenders"].items()
    ]
    head = ["## Input pipelines", "", "| | | images/s | MiB |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, ""]) if rows else ""


def first_step(results: dict[str, Any], of: str, wanted: dict[str, float]) -> str:
    """The table of a command; of: what it is the first step of. wanted: {row: seconds}."""
    found = results.get("first_step")
    if not found:
        return ""
    phases = ("total", "import", "set_up", "compile", "wait", "step")
    rows = [
        row(
            [
                name,
                *(f"{measured[p]:.1f}" if p in measured else "" for p in phases),
                *judged(
                    wanted.get(name),
                    lambda bound, measured=measured: measured["total"] <= bound,
                ),
            ]
        )
        for name, measured in found.items()
    ]
    head = [
        "## From the command to the first step",
        "",
        f"{of}, seconds.",
        "set-up is data and network; compile is of the step, traced and compiled or read from the",
        "cache, while the first state is drawn on another core; wait is for that.",
        "",
        "| | total | import | set-up | compile | wait | step | wanted | |",
        "|" + "---|" * 9,
    ]
    return "\n".join([*head, *rows, ""])


def title(case: dict[str, Any]) -> str:
    return f"{case['title']}, batch {case['batch']}"


def row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:,.{0 if seconds >= 0.1 else 1 if seconds >= 0.01 else 2}f}"


def _ratio(found: dict[str, float] | None) -> str:
    return f"{found['median']:.2f} ({found['low']:.2f} to {found['high']:.2f})" if found else ""
