"""Mutation testing: changes a module in one place at a time, and runs its tests on each change.

    python -m tools.mutate genjax/losses/vae.py genjax/losses/flow.py
    python -m tools.mutate genjax/losses/*.py --sample 12 --also tests/losses/test_paper_defaults.py

A mutant is killed where its tests fail or take several times as long. Prints the survivors, then
the share killed per module; exits with 1 where fewer than 95 % of all were killed. Mutants that
compute the same values are listed, with the reason, in tools/equivalent_mutants.txt.
"""

import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated, NamedTuple

import tyro
from tqdm import tqdm

ROOT = Path(__file__).parent.parent
EQUIVALENT = Path(__file__).parent / "equivalent_mutants.txt"
LEAST = 0.95
# fmt: off
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Div, ast.Mod: ast.Mult, ast.And: ast.Or, ast.Or: ast.And,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.USub: ast.UAdd,
}
NAMES = {
    "min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum", "floor": "ceil",
    "ceil": "floor", "argmin": "argmax", "argmax": "argmin",
}
# fmt: on
# --ff: the tests that failed before come first.
PYTEST = [sys.executable, "-m", "pytest", "-xq", "--ff", "-o", "addopts=", "-m", "not slow"]
# A mutant may ask for any amount of memory: it gets a third of the machine's.
MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 3
LIMITED = ["prlimit", f"--data={MEMORY}"] if shutil.which("prlimit") else []


@dataclass(frozen=True)
class Options:
    """What to mutate, and how much of it."""

    modules: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files of genjax; the tests of genjax/ROOM/NAME.py are tests/ROOM/test_NAME.py, if any."""
    also: tuple[Path, ...] = ()
    """Test files to run after each module's own."""
    sample: int | None = None
    """Draws that many of each module's mutants; all by default."""
    seed: int = 0
    jobs: int = os.cpu_count() or 1


class Mutant(NamedTuple):
    """A module's source with one change; the change is described without its line."""

    module: Path
    line: int
    change: str
    source: str


def mutants(module: Path) -> Iterator[Mutant]:
    tree = ast.parse((ROOT / module).read_text())
    for node, parent, scope in _nodes(tree, tree, "module"):
        shown = parent if isinstance(parent, ast.expr | ast.keyword | ast.arguments) else node
        for field, value in _changes(node):
            before, old = ast.unparse(shown), getattr(node, field)
            setattr(node, field, value)
            change = f"{module}: {scope}: {before} -> {ast.unparse(shown)}"
            yield Mutant(module, node.lineno, change, ast.unparse(tree))
            setattr(node, field, old)


def _nodes(node: ast.AST, parent: ast.AST, scope: str) -> Iterator[tuple[ast.AST, ast.AST, str]]:
    """Every node but those of annotations, error messages, formatted strings and zip's strict."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        scope = node.name if scope == "module" else f"{scope}.{node.name}"
    yield node, parent, scope
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            strict = isinstance(child, ast.keyword) and child.arg == "strict"
            skipped = field in ("annotation", "returns") or strict
            skipped |= isinstance(child, ast.Raise | ast.JoinedStr)
            if isinstance(child, ast.AST) and not skipped:
                yield from _nodes(child, node, scope)


def _changes(node: ast.AST) -> Iterator[tuple[str, object]]:
    """(field of the node, other value)."""
    match node:
        case ast.Constant(value=bool(x)):
            yield "value", not x
        case ast.Constant(value=int(x)):
            yield "value", x + 1
        case ast.Constant(value=float(x)):
            yield "value", 2 * x or 1.0
        case ast.Compare(ops=ops):
            for i, op in enumerate(ops):
                yield "ops", [*ops[:i], OPERATORS[type(op)](), *ops[i + 1 :]]
        case ast.Name(id=name) if name in NAMES:
            yield "id", NAMES[name]
        case ast.Attribute(attr=name) if name in NAMES:
            yield "attr", NAMES[name]
        case _ if type(getattr(node, "op", None)) in OPERATORS:
            yield "op", OPERATORS[type(node.op)]()  # type: ignore[attr-defined]


def copied(folder: Path) -> Path:
    """A copy of the tracked files, in which a mutant can replace its module."""
    for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    return folder


def passes(copies: SimpleQueue[Path], mutant: Mutant, also: tuple[Path, ...], limit: float) -> bool:
    """Whether the module's tests pass on the mutant, within the limit in seconds."""
    own = Path("tests", *mutant.module.parts[1:-1], f"test_{mutant.module.name}")
    folder = copies.get()
    # Every compiled program is kept, so that only what a mutant changes is compiled, and so
    # is the bytecode of the run without a mutant.
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "1" if mutant.change else "",
    }
    try:
        (folder / mutant.module).write_text(mutant.source)
        command = [*LIMITED, *PYTEST, *(str(p) for p in (own, *also) if (ROOT / p).exists())]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=limit
        )
        if done.returncode > 2:  # 0: passed, 1: failed, 2: not importable, below: by a signal
            raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
        return done.returncode == 0
    except subprocess.TimeoutExpired:
        shutil.rmtree(folder / "compiled", ignore_errors=True)  # a program may be half written
        return False
    finally:
        shutil.copyfile(ROOT / mutant.module, folder / mutant.module)
        copies.put(folder)


def drawn(options: Options) -> dict[Path, list[Mutant]]:
    """The mutants to try of each module, without those known as equivalent."""
    equivalent = {line.split(" # ")[0].strip() for line in EQUIVALENT.read_text().splitlines()}
    found = {}
    for module in options.modules:
        found[module] = [m for m in mutants(module) if m.change not in equivalent]
        count = len(found[module]) if options.sample is None else options.sample
        found[module] = random.Random(options.seed).sample(
            found[module], min(count, len(found[module]))
        )
    return found


def main() -> None:
    options = tyro.cli(Options, prog="python -m tools.mutate", description=__doc__)
    tried, killed = drawn(options), dict.fromkeys(options.modules, 0)
    copies: SimpleQueue[Path] = SimpleQueue()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        for number in range(options.jobs):
            copies.put(copied(Path(folder, str(number))))

        def run(mutant: Mutant, limit: float = 3600) -> bool:
            return passes(copies, mutant, options.also, limit)

        for module in tqdm(tried):
            began = time.monotonic()
            unchanged = Mutant(module, 0, "", ast.unparse(ast.parse((ROOT / module).read_text())))
            if not all(pool.map(run, [unchanged] * options.jobs)):
                sys.exit(f"error: the tests of {module} fail without a mutant")
            limit = 60 + 4 * (time.monotonic() - began)
            alive = pool.map(run, tried[module], [limit] * len(tried[module]))
            for mutant, survived in zip(tried[module], alive, strict=True):
                killed[module] += not survived
                if survived:
                    tqdm.write(f"survived: line {mutant.line} of {mutant.change}")
            tqdm.write(f"{module}: {killed[module]} of {len(tried[module])} killed")
    total = sum(map(len, tried.values()))
    print(f"all: {sum(killed.values())} of {total} killed")
    sys.exit(sum(killed.values()) < LEAST * total)


if __name__ == "__main__":
    main()
