"""Writes losses.md: every public name of genjax.losses and genjax.diffusion, and its tests."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from proofs import TestFile

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "losses.md"
ROOMS = ("losses", "diffusion")

# Test files that mirror no module, and the modules whose every name they test.
SHARED = {
    "losses/test_diffusion_transforms.py": (
        *("consistency", "couplings", "diffusion", "flow", "meanflow", "vdm", "vlb"),
    ),
    "losses/test_against_numpyro.py": ("importance", "likelihoods", "vae"),
    "losses/test_against_torch.py": ("gan", "likelihoods", "vae"),
    "diffusion/test_against_diffusers.py": ("predictions", "schedules"),
    "diffusion/test_sampler_contract.py": ("correctors", "multistep", "samplers"),
    "diffusion/test_samplers_against_diffusers.py": ("multistep", "samplers"),
    "test_defects.py": (
        *("autoencoder", "consistency", "diffusion", "flow", "importance", "likelihoods"),
        *("meanflow", "samplers", "multistep", "correctors", "vae", "vdm", "vlb"),
    ),
}

INTRODUCTION = """\
# Losses, schedules and samplers

<!-- Written by docs/build.py from the docstrings and the tests; run it again after a change. -->

Every public name of `genjax.losses` and `genjax.diffusion`: its formula, its paper, and the tests
that prove it. Each file imports jax alone and can be copied away.

Losses take callables and arrays and give one number per example, `[B]`, summed over an example's
elements. `key` is one PRNG key, or one per example. Times are in [0, 1], 0 the data and 1 the
noise: z_t = α(t)·x + σ(t)·ε, SNR = α²/σ², λ = log SNR. sg stops the gradient.
"""


@dataclass
class Entry:
    """One public name of a module."""

    room: str
    module: str
    name: str
    signature: str
    doc: str
    methods: list[tuple[str, str]] = field(default_factory=list)
    # Names of the module whose tests are this one's tests as well: its instances, subclasses, and
    # the functions that return it.
    stand_ins: set[str] = field(default_factory=set)
    tests: list[tuple[str, str]] = field(default_factory=list)  # (file below tests/, function)


def modules() -> list[Path]:
    return [p for room in ROOMS for p in sorted((ROOT / "genjax" / room).glob("[!_]*.py"))]


def entries(path: Path) -> list[Entry]:
    body = ast.parse(path.read_text()).body
    found = [entry for entry in map(_entry, body, [*body[1:], None]) if entry]
    by_name = {entry.name: entry for entry in found}
    for entry in found:
        entry.room, entry.module = path.parent.name, path.stem
    for node in body:
        for name, stand_in in _stand_ins(node):
            if name in by_name:
                by_name[name].stand_ins.add(stand_in)
    return found


def _entry(node: ast.stmt, following: ast.stmt | None) -> Entry | None:
    match node:
        case ast.FunctionDef(name=name) if name[0] != "_":
            return Entry("", "", name, _call(node), ast.get_docstring(node) or "")
        case ast.ClassDef(name=name) if name[0] != "_":
            doc = ast.get_docstring(node) or ""
            return Entry("", "", name, _constructor(node), doc, list(_methods(node)))
        # Without a call it is the name of a type.
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call()) if name[0] != "_":
            return Entry("", "", name, f"{name} = {_value(node)}", _doc_below(following))
    return None


def _doc_below(following: ast.stmt | None) -> str:
    match following:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return text.strip()
    return ""


def _stand_ins(node: ast.stmt) -> Iterator[tuple[str, str]]:
    match node:
        case ast.FunctionDef(name=name, returns=ast.Name(id=result)):
            yield result, name
        case ast.ClassDef(name=name, bases=bases):
            yield from ((base.id, name) for base in bases if isinstance(base, ast.Name))
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id=kind))):
            yield kind, name


def _call(node: ast.FunctionDef, skip: int = 0) -> str:
    a = node.args
    bare = ast.arguments(
        posonlyargs=[], args=[ast.arg(arg.arg) for arg in a.args[skip:]], defaults=a.defaults,
        vararg=a.vararg and ast.arg(a.vararg.arg), kwarg=None,
        kwonlyargs=[ast.arg(arg.arg) for arg in a.kwonlyargs], kw_defaults=a.kw_defaults,
    )  # fmt: skip
    return f"{node.name}({ast.unparse(bare)})"


def _constructor(node: ast.ClassDef) -> str:
    fields = [n for n in node.body if isinstance(n, ast.AnnAssign)]
    inside = (
        ast.unparse(n.target) + (f"={ast.unparse(n.value)}" if n.value else "") for n in fields
    )
    return f"{node.name}({', '.join(inside)})" if fields else node.name


def _methods(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and ast.get_docstring(method):
            attribute = any(
                isinstance(d, ast.Name) and d.id.endswith("property") for d in method.decorator_list
            )
            if method.name[0] != "_":
                call = method.name if attribute else _call(method, skip=1)
                yield call, ast.get_docstring(method) or ""


def _value(node: ast.Assign) -> str:
    text = ast.unparse(node.value)
    return "…" if "lambda" in text or text.startswith("_") else text


def documented() -> list[Entry]:
    """Every public name with its tests."""
    found = [entry for path in modules() for entry in entries(path)]
    by_key = {(e.module, e.name): e for e in found}
    mirrored = {
        f"{path.parent.name}/test_{path.stem}.py": (path.stem,) for path in modules()
    } | SHARED
    for file, names in mirrored.items():
        path = ROOT / "tests" / file
        if not path.exists():
            continue
        for test, reached in TestFile(path).tests():
            for entry in found:
                if entry.module in names and f"{entry.module}.{entry.name}" in reached:
                    entry.tests.append((file, test))
    # Twice, for a value of a class derived from another.
    for entry in [*found, *found]:
        others = (
            by_key[entry.module, n] for n in sorted(entry.stand_ins) if (entry.module, n) in by_key
        )
        entry.tests += [t for other in others for t in other.tests if t not in entry.tests]
    for entry in found:
        entry.doc = entry.doc or _of_its_class(entry, by_key)
    return found


def _of_its_class(entry: Entry, by_key: dict) -> str:
    kinds = [e for e in by_key.values() if e.module == entry.module and entry.name in e.stand_ins]
    return kinds[0].doc if kinds else ""


def markdown(doc: str) -> str:
    """A docstring as paragraphs and lists."""
    lines: list[str] = []
    for line in doc.splitlines():
        head = re.match(r"(Args|Returns|Raises|Assumes)(:| |$)", line)
        item = re.match(r"  (\w+): (.*)", line)
        if head and line.strip() != "Args:":
            lines += ["", _escape(line.strip())]
        elif line.strip() in ("Args:", "Returns:"):
            lines += ["", line.strip(), ""]
        elif item:
            lines.append(f"- `{item[1]}`: {_escape(item[2])}")
        else:
            indented = lines and lines[-1].startswith(("- ", "  ")) and line.startswith("   ")
            lines.append(("  " if indented else "") + _escape(line.strip()))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _escape(text: str) -> str:
    text = re.sub(r"^([-+#>]|\d+\.)(?= )", r"\\\1", text)
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        p if p.startswith("`") else re.sub(r"([*|~])|(?<!\w)_|_(?!\w)|<(?=\w)", r"\\\g<0>", p)
        for p in parts
    )


def _anchor(heading: str, seen: dict[str, int]) -> str:
    """The fragment that GitHub gives a heading."""
    slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
    seen[slug] = seen.get(slug, -1) + 1
    return f"{slug}-{seen[slug]}" if seen[slug] else slug


def section(entry: Entry) -> str:
    text = [f"### {entry.module}.{entry.name}", f"```python\n{entry.signature}\n```"]
    text.append(markdown(entry.doc))
    if entry.methods:
        text.append(
            "\n".join(f"- `.{call}`: {_flat(markdown(doc))}" for call, doc in entry.methods)
        )
    files: dict[str, list[str]] = {}
    for file, test in entry.tests:
        files.setdefault(file, []).append(f"`{test}`")
    proofs: list[str] = []
    for file, tests in files.items():
        proofs += [f"- [{file}](../tests/{file})", *(f"  - {test}" for test in tests)]
    count = f"{len(entry.tests)} test{'s' * (len(entry.tests) > 1)}"
    text += [f"<details><summary>Proven by {count}</summary>"]
    text += ["\n".join(proofs), "</details>"]
    return "\n\n".join(text)


def _flat(text: str) -> str:
    return " ".join(text.split())


def page() -> str:
    found, text, index, seen = documented(), [], [], {}
    _anchor("Losses, schedules and samplers", seen)
    for room in ROOMS:
        index += [f"| `genjax.{room}` | |", "|---|---|"]
        _anchor(f"genjax.{room}", seen)
        text.append(f"# genjax.{room}")
        for path in (p for p in modules() if p.parent.name == room):
            heading = f"genjax.{room}.{path.stem}"
            anchor = _anchor(heading, seen)
            about = ast.get_docstring(ast.parse(path.read_text())) or ""
            text += [f"## {heading}", f"{markdown(about)} [Source](../genjax/{room}/{path.name})"]
            own, links = [e for e in found if (e.room, e.module) == (room, path.stem)], []
            for entry in own:
                link = _anchor(f"{entry.module}.{entry.name}", seen)
                links.append(f"[{entry.name}](#{link})")
                text.append(section(entry))
            index.append(f"| [{path.stem}](#{anchor}) | {', '.join(links)} |")
        index.append("")
    return "\n\n".join([INTRODUCTION.strip(), "\n".join(index).strip(), *text]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
