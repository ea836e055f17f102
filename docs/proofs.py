"""Which names of genjax the tests of a file name, by ast."""

import ast
from collections.abc import Iterator
from pathlib import Path


class TestFile:
    """What each test of a file names, itself or through what it uses of the file."""

    __test__ = False

    def __init__(self, path: Path):
        self.tree = ast.parse(path.read_text())
        self.aliases: dict[str, str] = {}
        self.uses: dict[str, set[str]] = {}
        for node in self.tree.body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("genjax"):
                base = node.module.removeprefix("genjax.").split(".")[1:]
                for alias in node.names:
                    self.aliases[alias.asname or alias.name] = ".".join([*base, alias.name])
        for node in self.tree.body:
            for name in self._defined(node):
                self.uses.setdefault(name, set()).update(self._names(node))

    def tests(self) -> Iterator[tuple[str, set[str]]]:
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield node.name, self._reached(node.name)

    def _defined(self, node: ast.stmt) -> list[str]:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            return [node.name]
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.For):
            return [
                n.id for n in ast.walk(node)
                if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
            ]  # fmt: skip
        return []

    def _names(self, node: ast.AST) -> Iterator[str]:
        for n in ast.walk(node):
            match n:
                case ast.Attribute(value=ast.Name(id=module), attr=name) if module in self.aliases:
                    yield f"{self.aliases[module]}.{name}"
                case ast.Name(id=name) | ast.arg(arg=name):
                    yield self.aliases.get(name, name)

    def _reached(self, start: str) -> set[str]:
        reached, open_names = set(), {start}
        while open_names:
            name = open_names.pop()
            reached.add(name)
            open_names |= self.uses.get(name, set()) - reached
        return reached
