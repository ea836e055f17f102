"""The public names of genjax, by ast: nothing is imported, so that a test needs jax alone."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "genjax"
# Rooms whose every public name, values included, has a docstring and a test that names it.
PROVEN = ("losses", "diffusion")
_FLOORS = (*PROVEN, "edit", "models", "data", "evaluate", "report", "train", "run", "cli")


@dataclass
class Name:
    """One public name of a module."""

    module: str  # such as genjax.losses.gan
    name: str
    own_doc: str
    computes: bool = True  # no protocol and no name of a type: there is something to prove
    kind: str = ""  # where it is a value: the class of the module that it is made of, or its maker
    bases: tuple[str, ...] = ()
    returns: str = ""
    doc: str = ""  # own_doc, else that of its kind
    tests: list[tuple[str, str]] = field(default_factory=list)  # (file below tests/, function)

    @property
    def path(self) -> str:
        return f"{self.module}.{self.name}"

    @property
    def room(self) -> str:
        return room(self.module)

    @property
    def wants_proof(self) -> bool:
        return self.room in PROVEN and self.computes

    @property
    def summary(self) -> str:
        return self.doc.partition("\n\n")[0].replace("\n", " ").strip()


def room(module: str) -> str:
    """The folder of a module, "" for a file beside the rooms."""
    _, *rest = module.split(".")
    return rest[0] if rest and (PACKAGE / rest[0]).is_dir() else ""


def modules() -> dict[str, Path]:
    """Every public module of genjax by its dotted name, a package where it defines something."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1] == "__init__" and any(True for _ in _names("", path)):
            parts = parts[:-1]
        if not any(part.startswith("_") for part in parts):
            found[".".join(parts)] = path
    return found


def rooms() -> dict[str, list[str]]:
    """{room: its modules}, from what needs least to what needs most; files beside them under ""."""
    found: dict[str, list[str]] = {}
    for module in modules():
        found.setdefault(room(module), []).append(module)
    known = [*_FLOORS, *sorted(found.keys() - {*_FLOORS, ""}), ""]
    return {name: found[name] for name in known if name in found}


def module_doc(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text())) or ""


def public_names() -> list[Name]:
    """Every public function, class and documented value of genjax, in the order of the files."""
    found = [name for module, path in modules().items() for name in _names(module, path)]
    by_path = {name.path: name for name in found}
    for name in found:
        made_of = by_path.get(f"{name.module}.{name.kind}")
        name.doc = name.own_doc or (made_of.own_doc if made_of else "")
    return found


def _names(module: str, path: Path) -> Iterator[Name]:
    body = ast.parse(path.read_text()).body
    for node, following in zip(body, [*body[1:], None], strict=True):
        below = _doc_below(following)
        match node:
            case ast.FunctionDef(name=name, returns=returns) if name[0] != "_":
                doc = ast.get_docstring(node) or ""
                yield Name(module, name, doc, returns=_identifier(returns))
            case ast.ClassDef(name=name, bases=bases) if name[0] != "_":
                doc = ast.get_docstring(node) or ""
                parents = tuple(map(_identifier, bases))
                yield Name(module, name, doc, "Protocol" not in parents, bases=parents)
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name[0] != "_":
                # In the proven rooms what is made by a call is a value, the rest names of types.
                if below or (isinstance(value, ast.Call) and room(module) in PROVEN):
                    yield Name(module, name, below, isinstance(value, ast.Call), _kind(value))
            case ast.AnnAssign(target=ast.Name(id=name), value=value) if name[0] != "_" and below:
                yield Name(module, name, below, isinstance(value, ast.Call), _kind(value))


def _kind(value: ast.expr | None) -> str:
    return _identifier(value.func) if isinstance(value, ast.Call) else ""


def _identifier(node: ast.expr | None) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _doc_below(following: ast.stmt | None) -> str:
    match following:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return text.strip()
    return ""
