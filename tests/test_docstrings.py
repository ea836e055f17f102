"""Docstrings match their signatures: typed, Args in order, Returns, Raises, References."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

GENJAX = Path(__file__).parent.parent / "genjax"
SHARED = [GENJAX / f"{name}.py" for name in ("keys", "numerics", "over_batch")]
MODULES = [
    *(p for room in ("losses", "diffusion") for p in sorted((GENJAX / room).glob("[!_]*.py"))),
    *SHARED,
    *(GENJAX / f"{name}.py" for name in ("files", "errors")),
]
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


def raised(node: ast.AST) -> set[str]:
    """The exceptions that a body raises by name, those of functions inside it too."""
    names = set()
    for each in ast.walk(node):
        if isinstance(each, ast.Raise) and each.exc is not None:
            exception = each.exc.func if isinstance(each.exc, ast.Call) else each.exc
            name = ast.unparse(exception).split(".")[-1]
            names |= {name} if name[0].isupper() else set()
    return names


def reachable(node: ast.AST, known: dict[str, list[ast.AST]]) -> set[str]:
    """What a body raises by itself or by the functions of `known` that it calls, by any path."""
    found, todo, seen = set(), [node], set()
    while todo:
        body = todo.pop()
        found |= raised(body)
        for each in ast.walk(body):
            name = getattr(each, "id", None) or getattr(each, "attr", None)
            if name in known and name not in seen:
                seen.add(name)
                todo += known[name]
    return found


def definitions(*trees: ast.AST) -> dict[str, list[ast.AST]]:
    found: dict[str, list[ast.AST]] = {}
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, Function | ast.ClassDef):
                found.setdefault(node.name, []).append(node)
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                found.setdefault(node.targets[0].id, []).append(node.value)
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


def class_faults(node: ast.ClassDef, by_name: dict, known: dict) -> Iterator[str]:
    doc = ast.get_docstring(node)
    yield from text_faults(node.name, doc)
    parts = sections(doc or "")
    bases = [by_name[b.id] for b in node.bases if isinstance(b, ast.Name) and b.id in by_name]
    inherited = [name for base in bases for name in fields(base)]
    allowed = [fields(node), list(dict.fromkeys([*inherited, *fields(node)]))]
    listed = items(parts.get("Args", "")) + items(parts.get("Attributes", ""))
    if listed not in allowed:
        yield f"{node.name}: Args or Attributes are {listed}, its fields {fields(node)}"
    if surplus := set(items(parts.get("Raises", ""))) - reachable(node, known):
        yield f"{node.name}: Raises names {sorted(surplus)}, which nothing there raises"
    described = {each.name for base in bases for each in base.body if isinstance(each, Function)}
    for each in node.body:
        public = isinstance(each, Function) and (each.name[0] != "_" or each.name == "__call__")
        if public and (ast.get_docstring(each) or each.name not in described):
            yield from function_faults(f"{node.name}.{each.name}", each, True, known)


def annotation_faults(tree: ast.Module) -> Iterator[str]:
    """Parameters and results without a type, of private and inner functions too."""
    methods = {
        id(each) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for each in node.body
    }
    for node in ast.walk(tree):
        if isinstance(node, Function):
            bare = [a.arg for a in parameters(node, id(node) in methods) if a.annotation is None]
            if bare or (node.returns is None and node.name != "__init__"):
                yield f"{node.name}: no type for {[*bare] or 'the result'}"


def faults(source: str, *others: str) -> list[str]:
    """Every fault of a module's docstrings and types; others: sources that it may call."""
    tree = ast.parse(source)
    known = definitions(tree, *map(ast.parse, others))
    by_name = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    found = [*text_faults("the module", ast.get_docstring(tree)), *annotation_faults(tree)]
    for node, following in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, Function) and node.name[0] != "_":
            found += function_faults(node.name, node, False, known)
        elif isinstance(node, ast.ClassDef) and node.name[0] != "_":
            found += class_faults(node, by_name, known)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(following, ast.Expr):
            match following.value:
                case ast.Constant(value=str(text)):
                    found += text_faults(ast.unparse(node).split(" =")[0], text)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_docstrings_say_what_the_signatures_say(path):
    shared = [other.read_text() for other in SHARED if other != path]
    assert faults(path.read_text(), *shared) == []


GOOD = '''"""A module."""

def half(x: int, *, strict: bool = True) -> float:
    """Half of a number.

    Args:
      x: even.
      strict: refuse an odd number.

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
'''


def test_a_good_module_has_no_fault():
    assert faults(GOOD) == []


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
        ("      x/2.\n", "    x/2.\n", "two spaces"),
    ],
)
def test_each_fault_is_found(before, after, fault):
    assert GOOD.count(before) >= 1
    assert any(fault in each for each in faults(GOOD.replace(before, after, 1)))
