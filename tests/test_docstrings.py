"""Docstrings match their signatures: typed, Args in order, Returns, Raises, References."""

import ast
import itertools
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in sorted((ROOT / "genjax").rglob("[!_]*.py"))
}
# Phrases that an engineer would not search for, and what to write in their place.
WORDING = {
    "is told in": "logged to, recorded in",
    "passed over": "skipped",
    "left out": "skipped, omitted",
    "gone on with": "resumed",
    "in its own place": "re-exec",
    "one number an example": "one value per example",
    "A damaged score is none": "treat a corrupted score as missing",
}
SECTIONS = ["Args", "Attributes", "Returns", "Yields", "Raises", "References"]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def sections(doc: str) -> dict[str, str]:
    """{section: its text}, in the order of the docstring; the text before the first under ""."""
    pieces = re.split(rf"^({'|'.join(SECTIONS)}):[ \t]*$", doc, flags=re.M)
    return {"": pieces[0]} | dict(zip(pieces[1::2], pieces[2::2], strict=True))


def items(text: str) -> list[str]:
    """The names of a section's items, which are indented by two spaces."""
    return [name.lstrip("*") for name in re.findall(r"^  (\*{0,2}\w+):", text, re.M)]


def parameters(function: Function, method: bool) -> list[ast.arg]:
    a = function.args
    positional = [*a.posonlyargs, *a.args]
    static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in _decorators(function))
    if method and not static:
        positional = positional[1:]
    rest = [*filter(None, [a.vararg]), *a.kwonlyargs, *filter(None, [a.kwarg])]
    return [*positional, *rest]


def fields(node: ast.ClassDef) -> list[str]:
    """A class's own fields and values, or what `__init__` takes."""
    for each in node.body:
        if isinstance(each, Function) and each.name == "__init__":
            return [arg.arg for arg in parameters(each, method=True)]
    targets = {
        each.target if isinstance(each, ast.AnnAssign) else each.targets[0]: each
        for each in node.body
        if isinstance(each, ast.AnnAssign | ast.Assign)
    }
    return [
        target.id
        for target, each in targets.items()
        if isinstance(target, ast.Name)
        and target.id[0] != "_"
        and "ClassVar" not in ast.unparse(getattr(each, "annotation", target))
    ]


def documented_below(node: ast.ClassDef) -> set[str]:
    """The fields with a text below them, which is their help on a command line."""
    return {
        ast.unparse(each.target)
        for each, below in zip(node.body, node.body[1:], strict=False)
        if isinstance(each, ast.AnnAssign)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
    }


@cache
def raised(node: ast.AST) -> set[str]:
    """The exceptions that a body raises by name, or as a parameter of that type.

    Those of functions inside it count too.
    """
    names, types = set(), {}
    for each in ast.walk(node):
        if isinstance(each, ast.arg) and each.annotation is not None:
            types[each.arg] = ast.unparse(each.annotation)
    for each in ast.walk(node):
        if isinstance(each, ast.Raise) and each.exc is not None:
            exception = each.exc.func if isinstance(each.exc, ast.Call) else each.exc
            name = ast.unparse(exception)
            name = types.get(name, name).split(".")[-1]
            names |= {name} if name[0].isupper() else set()
    return names


@cache
def named(node: ast.AST) -> set[str]:
    """The names and attributes in a body."""
    names = {getattr(each, "id", None) or getattr(each, "attr", "") for each in ast.walk(node)}
    return names - {""}


def reachable(node: ast.AST, known: dict[str, list[ast.AST]]) -> set[str]:
    """What a body raises by itself or by the functions of `known` that it calls, by any path."""
    found, todo, seen = set(), [node], set()
    while todo:
        body = todo.pop()
        found |= raised(body)
        if isinstance(body, Function) and body.returns is not None:  # an error made for a `raise`
            found |= {name for name in [ast.unparse(body.returns)] if name.endswith("Error")}
        for name in named(body) - seen:
            seen.add(name)
            todo += known.get(name, [])
    return found


@cache
def defined(tree: ast.AST) -> list[tuple[str, ast.AST]]:
    found: list[tuple[str, ast.AST]] = []
    for node in ast.walk(tree):
        if isinstance(node, Function | ast.ClassDef):
            found.append((node.name, node))
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.append((node.targets[0].id, node.value))
    return found


def definitions(*trees: ast.AST) -> dict[str, list[ast.AST]]:
    found: dict[str, list[ast.AST]] = {}
    for name, node in itertools.chain.from_iterable(map(defined, trees)):
        found.setdefault(name, []).append(node)
    return found


def _decorators(function: Function) -> Iterator[ast.expr]:
    for each in function.decorator_list:
        yield each.func if isinstance(each, ast.Call) else each


def _is_property(function: Function) -> bool:
    return any(ast.unparse(d).endswith(("property", ".setter")) for d in _decorators(function))


def text_faults(where: str, doc: str | None) -> Iterator[str]:
    """Faults that any docstring can have: no summary, sections unknown, twice, or out of order."""
    if not doc:
        yield f"{where}: no docstring"
        return
    if not doc.split("\n\n")[0].rstrip().endswith((".", ":", "$$")):
        yield f"{where}: the summary does not end with a period"
    heads = re.findall(r"^([A-Z]\w+):[ \t]*$", doc, re.M)
    if unknown := [head for head in heads if head not in SECTIONS]:
        yield f"{where}: unknown sections {unknown}"
    elif heads != sorted(set(heads), key=SECTIONS.index):
        yield f"{where}: sections {heads} are not in the order of {SECTIONS}"
    for head, text in sections(doc).items():
        if head and not re.match(r"\n  \S", text):
            yield f"{where}: {head} is empty or not indented by two spaces"


def function_faults(where: str, node: Function, method: bool, known: dict) -> Iterator[str]:
    doc = ast.get_docstring(node)
    yield from text_faults(where, doc)
    if not doc:
        return
    parts = sections(doc)
    expected = [arg.arg for arg in parameters(node, method)]
    if items(parts.get("Args", "")) != expected:
        yield f"{where}: Args are {items(parts.get('Args', ''))}, the signature has {expected}"
    own = [n for n in ast.walk(node) if isinstance(n, ast.Yield | ast.YieldFrom)]
    head = "Yields" if own else "Returns"
    result = ast.unparse(node.returns) if node.returns else "None"
    needed = result not in ("None", "NoReturn", "Never")
    if not _is_property(node) and (head in parts) != needed:
        yield f"{where}: {head} is {'missing' if needed else 'there'}, the result is {result}"
    yield from raises_faults(where, node, parts, known)


def raises_faults(where: str, node: ast.AST, parts: dict, known: dict) -> Iterator[str]:
    documented = set(items(parts.get("Raises", "")))
    if missing := raised(node) - documented:
        yield f"{where}: Raises lacks {sorted(missing)}"
    # The operating system's errors come out of calls that no `raise` shows.
    if surplus := documented - reachable(node, known) - {"OSError"}:
        yield f"{where}: Raises names {sorted(surplus)}, which nothing there raises"


def ancestors(node: ast.ClassDef, known: dict[str, list[ast.AST]]) -> list[ast.ClassDef]:
    """The base classes of a class that are in `known`, and theirs, the nearest first."""
    found: list[ast.ClassDef] = []
    for base in node.bases:
        name = ast.unparse(base).split(".")[-1]
        for each in known.get(name, []):
            if isinstance(each, ast.ClassDef) and each is not node:
                found += [each, *ancestors(each, known)]
    return found


def class_faults(node: ast.ClassDef, known: dict[str, list[ast.AST]]) -> Iterator[str]:
    doc = ast.get_docstring(node)
    yield from text_faults(node.name, doc)
    parts = sections(doc or "")
    bases = ancestors(node, known)
    inherited = [name for base in bases for name in fields(base)]
    elsewhere = {*inherited, *documented_below(node)}
    own = fields(node)
    allowed = [own, list(dict.fromkeys([*inherited, *own])), [f for f in own if f not in elsewhere]]
    listed = items(parts.get("Args", "")) + items(parts.get("Attributes", ""))
    if listed not in allowed:
        yield f"{node.name}: Args or Attributes are {listed}, its fields {own}"
    if surplus := set(items(parts.get("Raises", ""))) - reachable(node, known) - {"OSError"}:
        yield f"{node.name}: Raises names {sorted(surplus)}, which nothing there raises"
    described = {
        each.name
        for base in bases
        for each in base.body
        if isinstance(each, Function) and ast.get_docstring(each)
    }
    # The docstring of a network's class says what it takes, returns and raises.
    network = any(ast.unparse(base) == "nn.Module" for c in [node, *bases] for base in c.bases)
    if network and (missing := raised(node) - set(items(parts.get("Raises", "")))):
        yield f"{node.name}: Raises lacks {sorted(missing)}"
    for each in node.body:
        public = isinstance(each, Function) and (each.name[0] != "_" or each.name == "__call__")
        if network and public and each.name in ("__call__", "setup"):
            if "Returns" not in parts and not described:
                yield f"{node.name}: Returns is missing, of a call"
        elif public and (ast.get_docstring(each) or each.name not in described):
            yield from function_faults(f"{node.name}.{each.name}", each, True, known)


def annotation_faults(tree: ast.Module) -> Iterator[str]:
    """Parameters and results without a type, of private and inner functions too."""
    methods = {
        id(each)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for part in [node, *(p for p in node.body if isinstance(p, ast.If))]
        for each in part.body
    }
    for node in ast.walk(tree):
        if isinstance(node, Function):
            bare = [a.arg for a in parameters(node, id(node) in methods) if a.annotation is None]
            if bare or (node.returns is None and node.name != "__init__"):
                yield f"{node.name}: no type for {[*bare] or 'the result'}"


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> set[Path]:
    names = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {MODULES[name] for name in names if name in MODULES}


def imported(path: Path) -> set[Path]:
    """The modules of genjax that a module imports, directly or not."""
    found: set[Path] = set()
    todo = [path]
    while todo:
        new = imports(todo.pop()) - found - {path}
        found |= new
        todo += new
    return found


def faults(tree: ast.Module, *others: ast.Module) -> list[str]:
    """Every fault of a module's docstrings and types; others: modules that it may call."""
    known = definitions(tree, *others)
    found = [*text_faults("the module", ast.get_docstring(tree)), *annotation_faults(tree)]
    for node, following in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, Function) and node.name[0] != "_":
            found += function_faults(node.name, node, False, known)
        elif isinstance(node, ast.ClassDef) and node.name[0] != "_":
            found += class_faults(node, known)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(following, ast.Expr):
            match following.value:
                case ast.Constant(value=str(text)):
                    found += text_faults(ast.unparse(node).split(" =")[0], text)
    return found


@pytest.mark.heavy
@pytest.mark.parametrize("name", MODULES)
def test_docstrings_match_the_signatures(name):
    path = MODULES[name]
    assert faults(parsed(path), *map(parsed, imported(path))) == []


@pytest.mark.parametrize("phrase", WORDING)
def test_standard_terms_are_used(phrase):
    using = [name for name, path in MODULES.items() if phrase in " ".join(path.read_text().split())]
    assert not using, f"write: {WORDING[phrase]}"


GOOD = '''"""A module."""

def half(x: int, *, strict: bool = True) -> float:
    """Half of a number.

    Args:
      x: even.
      strict: whether an odd number raises.

    Returns:
      x/2.

    Raises:
      ValueError: where x is odd.
    """
    if strict and x % 2:
        raise ValueError(x)
    return x / 2

class Pair:
    """Two numbers.

    Attributes:
      a: the first.
      b: the second.
    """

    a: int
    b: int

    def total(self) -> int:
        """Their sum.

        Returns:
          a + b.
        """
        return self.a + self.b

class Triple(Pair):
    """Three numbers.

    Attributes:
      c: the third.
    """

    c: int

    def total(self) -> int:
        return self.a + self.b + self.c

class Settings:
    """Settings of a command."""

    steps: int = 1
    """Number of steps."""

class Network(nn.Module):
    """Multiplies by a number.

    Args:
      factor: the number.

    Returns:
      From x: the product.

    Raises:
      KeyError: where x is 0.
    """

    factor: int

    def __call__(self, x: int) -> int:
        if x == 0:
            raise KeyError(x)
        return self.factor * x
'''


def test_a_good_module_has_no_fault():
    assert faults(ast.parse(GOOD)) == []


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("x: int, *", "x, *", "no type for"),
        (" -> float", "", "no type for the result"),
        ("      x: even.\n", "", "Args are"),
        ("x: int, *, strict: bool = True", "strict: bool, x: int", "Args are"),
        ("    Returns:\n      x/2.\n\n", "", "Returns is missing"),
        (" -> int:", " -> None:", "Returns is there"),
        ("    Raises:\n      ValueError: where x is odd.\n", "", "Raises lacks"),
        ("raise ValueError(x)", "return x / 2", "Raises names"),
        ("ValueError: where", "KeyError: where", "Raises lacks"),
        ("    Returns:\n      x/2.\n\n", "    Gives:\n      x/2.\n\n", "unknown sections"),
        ("    Raises:", "    References:\n      A.\n\n    Raises:", "not in the order"),
        ("Half of a number.", "Half of a number", "period"),
        ("      b: the second.\n", "", "its fields"),
        ('"""Their sum.', '_ = """Their sum.', "no docstring"),
        ("class Triple(Pair):", "class Triple:", "no docstring"),
        ("      c: the third.\n", "      a: the first.\n", "its fields"),
        ('    """Number of steps."""\n', "", "its fields"),
        ("    Returns:\n      From x: the product.\n\n", "", "Returns is missing, of a call"),
        ("      factor: the number.\n", "      other: the number.\n", "its fields"),
        ("KeyError: where x is 0.", "OSError: where x is 0.", "Raises lacks"),
        ("(nn.Module)", "", "__call__: no docstring"),
        ("      x/2.\n", "    x/2.\n", "two spaces"),
    ],
)
def test_each_fault_is_found(before, after, fault):
    assert GOOD.count(before) >= 1
    assert any(fault in each for each in faults(ast.parse(GOOD.replace(before, after, 1))))
