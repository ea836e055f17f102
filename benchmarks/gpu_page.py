"""The section of docs/performance.md on one GPU, from a run's results."""

from typing import Any

from benchmarks.gpu_cases import GPU_CASES
from benchmarks.page import first_step, judged, milliseconds, row

COMMAND = "`python -m experiments.ddpm_cifar10 --compute bfloat16 --run.batch 128`"
FIRST_STEP = {"genjax, cold cache": 25, "genjax, warm cache": 8}  # seconds wanted

HOW = """\
Networks compute in bfloat16 with float32 parameters; PyTorch under autocast, with fused Adam. The
data set lies on the GPU for both. Every contender is a process of its own; all of a case are built
at the same time and then timed in turns. *Of peak* is the share of the rate of bfloat16 products of
8192x8192 matrices in the same run; operations are convolutions and matrix products only. *Busy* is
the share of the time in which any kernel runs. *PyTorch's time* is over the best of genjax.
"""


def section(results: dict[str, Any]) -> str:
    given = results["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in given["versions"].items())
    lines = [
        "## One GPU",
        "",
        f"Measured {given['date']} on {given['gpu'] or 'no GPU'}, {given['cores']} cores of "
        f"{given['cpu']}: `{given['command']}`.",
        f"{versions}.",
    ]
    if "peak" in results:
        lines.append(
            f"bfloat16 products {results['peak']['genjax'] / 1e12:,.0f} TFLOP/s, "
            f"copies {results['copied_bytes'] / 1e12:.2f} TB/s (read and written)."
        )
    lines += ["", HOW, *_table(results), "", *_skipped(results)]
    return "\n".join(lines) + "\n" + first_step(results, COMMAND, FIRST_STEP)


def _table(results: dict[str, Any]) -> list[str]:
    rows = [
        "| | batch | | ms | images/s | of peak | busy | MiB | PyTorch's time | wanted | | "
        "first, s |",
        "|" + "---|" * 12,
    ]
    order = [case.name for case in GPU_CASES]
    cases = sorted(results["cases"], key=lambda case: order.index(case["name"]))
    for case in cases:
        for name, measured in case["contenders"].items():
            rows.append(row(_cells(results, case, name, measured)))
    return rows if len(rows) > 2 else []


def _cells(results: dict[str, Any], case: dict, name: str, measured: dict) -> list[str]:
    seconds = measured["seconds"]["median"]
    flops = case["flops"].get("genjax", {}).get("products")
    peak = results.get("peak", {}).get("genjax")
    ours = [
        other["seconds"]["median"]
        for n, other in case["contenders"].items()
        if n.startswith("genjax")
    ]
    ratio = seconds / min(ours) if ours and name.startswith("torch") else None
    wanted = next((c.wanted for c in GPU_CASES if c.name == case["name"]), None)
    busy = measured.get("gpu_busy")
    return [
        case["title"],
        str(case["batch"]),
        name,
        milliseconds(seconds),
        f"{case['batch'] / seconds:,.0f}",
        f"{flops / seconds / peak:.0%}" if flops and peak else "",
        f"{busy:.0%}" if busy else "",
        f"{measured['mib']:,.0f}",
        f"{ratio:.2f}" if ratio else "",
        *(judged(wanted, lambda bound: ratio >= bound) if ratio else ("", "")),
        f"{measured['init'] + measured['first']:.1f}",
    ]


def _skipped(results: dict[str, Any]) -> list[str]:
    return [
        f"- {case['title']}, batch {case['batch']}: {name} skipped: {why}"
        for case in results["cases"]
        for name, why in case["skipped"].items()
    ]
