"""The rooms stay apart: what each may import, by ast, and what importing one loads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GENJAX = ROOT / "genjax"
STANDARD = set(sys.stdlib_module_names)

# What a room's files may import beside the standard library and their own room.
ROOMS = {
    "losses": {"jax"},
    "diffusion": {"jax"},
    "models": {"jax", "flax"},
    "data": {"numpy", "tensorflow_datasets", "grain", "PIL", "tqdm", "etils", "array_record"},
    "evaluate": {"jax", "numpy"},
    "report": {"numpy", "PIL"},
    "train": {"jax", "numpy", "flax", "optax", "orbax", "safetensors", "tensorboardX", "tqdm"},
    "cli": {"jax", "numpy", "tyro", "tqdm", "genjax"},
}
# What lies outside the rooms, and what it may import beside the standard library.
PORTABLE = {"keys", "numerics", "over_batch"}  # for losses and diffusion, to be copied with them
HALL = {"errors": set(), "files": set(), **{name: {"jax"} for name in PORTABLE}}
# Rooms whose files do not even import each other: each can be copied away.
LONERS = {"losses", "diffusion", "evaluate"}
# But for these, which the room's other files may import, each only those before it.
SHARED = {
    "diffusion": ["protocols", "sampling_loop"],
}
# Inside train: who may import whom.
TRAIN = {
    "state": set(),
    "game": {"state"},
    "step": {"state", "game"},
    "layout": {"state", "game", "step"},
    "digests": set(),
    "checkpoint": {"state", "digests", "processes"},
    "processes": set(),
    "host_memory": set(),
    "metrics": set(),
    "weights": {"state"},
    "loop": {
        "state",
        "game",
        "step",
        "layout",
        "checkpoint",
        "host_memory",
        "metrics",
        "processes",
    },
}


def imported(path: Path) -> set[str]:
    """The dotted names of the modules a file imports, anywhere in it."""
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


def shared_with(room: str, file: str) -> list[str]:
    """The dotted names of the room's shared files that one of its files may import."""
    shared = SHARED.get(room, [])
    before = shared[: shared.index(file)] if file in shared else shared
    return [f"genjax.{room}.{name}" for name in before]


def test_every_folder_is_a_known_room():
    folders = {path.name for path in GENJAX.iterdir() if (path / "__init__.py").exists()}
    assert folders == ROOMS.keys()


def test_what_lies_outside_the_rooms_needs_no_room():
    assert {path.stem for path in GENJAX.glob("*.py")} == HALL.keys() | {"__init__", "__main__"}
    for name, allowed in HALL.items():
        tops = {each.split(".")[0] for each in imported(GENJAX / f"{name}.py")}
        assert tops <= STANDARD | allowed, name


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_its_door_allows(room):
    for path in files(room):
        own = set() if room in LONERS else {f"genjax.{room}"}
        for name in imported(path):
            top = name.split(".")[0]
            allowed = (
                top in STANDARD | ROOMS[room]
                or any(name == o or name.startswith(f"{o}.") for o in own)
                or name == "genjax"
                or name.removeprefix("genjax.").split(".")[0] in (HALL if own else PORTABLE)
                or any(name == o or name.startswith(f"{o}.") for o in shared_with(room, path.stem))
            )
            assert allowed, f"{path.relative_to(ROOT)} imports {name}"


def test_inside_train_imports_follow_the_order_of_the_house():
    assert {path.stem for path in files("train")} == TRAIN.keys() | {"__init__"}
    for path in files("train"):
        for name in imported(path):
            if name.startswith("genjax.train."):
                assert name.split(".")[2] in TRAIN[path.stem], f"{path.stem} imports {name}"


def test_no_room_imports_the_experiments():
    for path in GENJAX.rglob("*.py"):
        assert not any(name.split(".")[0] == "experiments" for name in imported(path)), path


@pytest.mark.parametrize("room", ["losses", "diffusion"])
def test_a_loner_room_loads_with_jax_alone(room):
    modules = [f"genjax.{room}.{path.stem}" for path in files(room) if path.stem != "__init__"]
    heavy = ["flax", "optax", "orbax", "tensorflow_datasets", "grain", "PIL"]
    code = (
        f"import sys, {', '.join(modules)}; "
        f"sys.exit(', '.join(m for m in {heavy} if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_only_the_layout_says_pmap():
    saying = {path.name for path in GENJAX.rglob("*.py") if "jax.pmap" in path.read_text()}
    assert saying == {"layout.py"}


def test_nothing_is_a_drawer_for_everything():
    names = {path.stem for place in (GENJAX, ROOT / "experiments") for path in place.rglob("*.py")}
    assert not names & {"utils", "util", "helpers", "helper", "common", "misc"}


def test_every_public_function_of_the_reusable_rooms_has_a_docstring():
    for room in ("losses", "diffusion", "evaluate", "train"):
        for path in files(room):
            tree = ast.parse(path.read_text())
            assert ast.get_docstring(tree), f"{path} says not what it is"
            for node in tree.body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
                    assert ast.get_docstring(node), f"{path.name}: {node.name}"


def test_ci_runs_the_test_command_of_the_readme():
    commands = (ROOT / ".ci" / "run").read_text().splitlines()
    readme = (ROOT / "README.md").read_text()
    command = next(line for line in commands if "pytest" in line)
    assert command in readme
