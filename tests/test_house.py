"""The rooms stay apart: what each may import, by ast, and what importing one loads."""

import ast
import functools
import graphlib
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GENJAX = ROOT / "genjax"
STANDARD = set(sys.stdlib_module_names)

# What a room's files may import beside the standard library: other packages, and rooms below.
ROOMS = {
    "losses": ({"jax"}, set()),
    "diffusion": ({"jax"}, set()),
    "edit": ({"jax", "optax"}, {"diffusion", "losses"}),
    "models": ({"jax", "flax"}, set()),
    "data": (
        {"numpy", "tensorflow_datasets", "grain", "PIL", "tqdm", "etils", "array_record"},
        set(),
    ),
    "evaluate": ({"jax", "numpy", "scipy"}, {"losses", "diffusion"}),
    "report": ({"numpy", "PIL", "jinja2", "markupsafe"}, set()),
    "train": (
        {"jax", "numpy", "flax", "optax", "orbax", "safetensors", "tensorboardX", "tqdm"},
        set(),
    ),
    "run": (
        {"jax", "numpy", "tqdm", "sklearn", "threadpoolctl"},
        {"data", "diffusion", "edit", "evaluate", "models", "report", "train"},
    ),
    "cli": ({"jax", "numpy", "tyro"}, {"data", "report", "run", "train"}),
}
# The files outside the rooms, and what each may import beside the standard library.
PORTABLE = {"keys", "numerics", "over_batch"}  # for losses and diffusion, to be copied with them
HALL = {
    "errors": set(),
    "files": {"genjax.errors"},
    "limits": {"genjax.errors"},
    **{name: {"jax"} for name in PORTABLE},
    "recipes": {"jax", "genjax.losses", "genjax.diffusion", "genjax.numerics"},
}
# Rooms whose files need no other room and outside the rooms only what can be copied along.
PORTABLE_ROOMS = {"losses", "diffusion"}
# Rooms whose files do not even import each other: each can be copied away.
LONERS = {"losses"}

FILE_LINES, FUNCTION_LINES = 250, 60  # of code: no docstring, comment or blank line
EXPERIMENT_LINES, BUILD_LINES, CLI_LINES = 120, 50, 900  # the last: of code


def imported(path: Path) -> set[str]:
    """The dotted names that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files(room: str) -> list[Path]:
    return sorted((GENJAX / room).rglob("*.py"))


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(path): path for path in sorted(GENJAX.rglob("*.py"))}


@functools.cache
def code_lines(path: Path) -> frozenset[int]:
    """The numbers of the lines that hold code."""
    lines: set[int] = set()
    nothing = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type not in {*nothing, tokenize.ENCODING, tokenize.ENDMARKER}:
                lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):  # a docstring, of a field too
                lines -= set(range(node.lineno, node.end_lineno + 1))
    return frozenset(lines)


def functions(path: Path) -> list[ast.FunctionDef]:
    return [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef)]


def length(path: Path, node: ast.AST) -> int:
    return len(code_lines(path) & set(range(node.lineno, node.end_lineno + 1)))


SOURCES = [
    path
    for place in ("genjax", "experiments", "benchmarks", "tools", "docs")
    for path in sorted((ROOT / place).rglob("*.py"))
]


def test_every_folder_is_a_known_room():
    folders = {path.name for path in GENJAX.iterdir() if (path / "__init__.py").exists()}
    assert folders == ROOMS.keys()


def test_files_outside_the_rooms_import_only_what_is_allowed():
    assert {path.stem for path in GENJAX.glob("*.py")} == HALL.keys() | {"__init__", "__main__"}
    for name, allowed in HALL.items():
        for each in imported(GENJAX / f"{name}.py"):
            top = each.split(".")[0]
            place = ".".join(each.split(".")[:2]) if top == "genjax" else top
            assert place in STANDARD | allowed | {"genjax"}, f"{name} imports {each}"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_is_allowed(room):
    packages, below = ROOMS[room]
    hall = PORTABLE if room in PORTABLE_ROOMS else HALL.keys() - {"recipes"}
    own = set() if room in LONERS else {room}
    for path in files(room):
        outside = STANDARD | packages | ({"lazy_loader"} if path.stem == "__init__" else set())
        for name in imported(path):
            top, _, rest = name.partition(".")
            if top != "genjax":
                assert top in outside, f"{path.relative_to(ROOT)} imports {name}"
            elif rest:
                place = rest.split(".")[0]
                assert place in hall | below | own, f"{path.relative_to(ROOT)} imports {name}"


def test_inside_the_library_imports_name_the_module():
    # By its room's lazy name an import would not show which file it needs.
    for path in MODULES.values():
        for name in imported(path):
            room, _, rest = name.removeprefix("genjax.").partition(".")
            if name.startswith("genjax.") and room in ROOMS and rest:
                assert any(
                    name == m or name.startswith(f"{m}.") for m in MODULES if "." in m[7:]
                ), f"{path.relative_to(ROOT)} imports {name}"


def test_there_are_no_import_cycles():
    needs = {
        name: {each for each in imported(path) if each in MODULES and each != "genjax"} - {name}
        for name, path in MODULES.items()
    }
    for name in needs:  # a package is no file of its own: its names are loaded lazily
        if MODULES[name].stem == "__init__":
            needs[name] = set()
    graphlib.TopologicalSorter(needs).prepare()


def test_no_room_imports_the_experiments():
    for path in GENJAX.rglob("*.py"):
        assert not any(name.split(".")[0] == "experiments" for name in imported(path)), path


def test_every_file_and_every_function_is_short():
    for path in SOURCES:
        assert len(code_lines(path)) <= FILE_LINES, path
        for node in functions(path):
            assert length(path, node) <= FUNCTION_LINES, f"{path}: {node.name}"


def test_the_command_line_is_thin():
    assert sum(len(code_lines(path)) for path in files("cli")) < CLI_LINES


def test_an_experiment_fits_on_one_screen():
    for path in (ROOT / "experiments").glob("*.py"):
        if "__doc__, Config()" in path.read_text():
            assert len(path.read_text().splitlines()) <= EXPERIMENT_LINES, path
            for node in functions(path):
                if node.name == "build":
                    assert node.end_lineno - node.lineno + 1 <= BUILD_LINES, path


def test_importing_the_library_imports_nothing_heavy_and_sets_nothing():
    heavy = ["jax", "numpy", "flax", "optax", "orbax", "tensorflow_datasets", "PIL", "tyro"]
    code = (
        "import os, sys; before = dict(os.environ); import genjax; dir(genjax); "
        "assert dict(os.environ) == before; "
        f"sys.exit(', '.join(m for m in {heavy} if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_commands_start_without_statistics_that_audits_alone_need():
    code = "import sys, genjax.cli.commands; sys.exit('scipy.stats' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_every_room_and_module_is_reached_by_its_dotted_name():
    names = {name for name in MODULES if name.count(".") == 2 and "__" not in name}
    lazy = [n for n in names if n.split(".")[1] not in {"data", "run"}]
    code = f"import genjax; [eval(name) for name in {sorted(lazy)}]"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("room", ["losses", "diffusion"])
def test_a_portable_room_imports_jax_alone(room):
    modules = [f"genjax.{room}.{path.stem}" for path in files(room) if path.stem != "__init__"]
    heavy = ["flax", "optax", "orbax", "tensorflow_datasets", "grain", "PIL"]
    code = (
        f"import sys, {', '.join(modules)}; "
        f"sys.exit(', '.join(m for m in {heavy} if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_only_the_layout_uses_pmap():
    saying = {path.name for path in GENJAX.rglob("*.py") if "jax.pmap" in path.read_text()}
    assert saying == {"layout.py"}


def test_test_files_of_two_folders_have_two_names():
    # Folders of tests are no packages: pytest cannot collect two files of one name together.
    names = [path.name for path in (ROOT / "tests").glob("*/**/test_*.py")]
    assert not {name for name in names if names.count(name) > 1}


def test_no_module_is_called_utils():
    names = {path.stem for place in (GENJAX, ROOT / "experiments") for path in place.rglob("*.py")}
    assert not names & {"utils", "util", "helpers", "helper", "common", "misc"}


def test_every_public_function_of_the_reusable_rooms_has_a_docstring():
    for room in ("losses", "diffusion", "evaluate", "train"):
        for path in files(room):
            tree = ast.parse(path.read_text())
            assert ast.get_docstring(tree), f"{path} has no docstring"
            for node in tree.body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
                    assert ast.get_docstring(node), f"{path.name}: {node.name}"


def test_ci_runs_the_test_command_of_the_readme():
    commands = (ROOT / ".ci" / "run").read_text().splitlines()
    readme = (ROOT / "README.md").read_text()
    command = next(line for line in commands if "pytest" in line)
    assert command in readme
