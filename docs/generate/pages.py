"""The pages that are made while the site is built: API, proofs, and files from elsewhere."""

import ast
import re
from pathlib import Path

import names
import proofs
from names import ROOT, Name


def api_pages() -> dict[str, str]:
    """{path: markdown}, a page per module and one of all."""
    found: dict[str, list[Name]] = {module: [] for module in names.modules()}
    for name in proofs.proven_names():
        found[name.module].append(name)
    pages = {api_path(module): _module_page(module, own) for module, own in found.items()}
    return {"api/index.md": _index(found), **pages}


def api_path(module: str) -> str:
    return f"api/{module.removeprefix('genjax.').replace('.', '/')}.md"


def _index(found: dict[str, list[Name]]) -> str:
    text = [
        "# API",
        "Every public name of genjax. A number after a name says how many tests prove it; its page "
        "links to each of them.",
    ]
    for room, modules in names.rooms().items():
        text += [f"## {f'genjax.{room}' if room else 'Beside the rooms'}", '<div class="index">']
        for module in modules:
            stem = module.removeprefix(f"genjax.{room}.").removeprefix("genjax.")
            own = " · ".join(f'<a href="{_href(n)}">{n.name}</a>{_count(n)}' for n in found[module])
            page = api_path(module).removeprefix("api/").replace(".md", ".html")
            text.append(f'<p><a href="{page}"><b>{stem}</b></a> {own}</p>')
        text.append("</div>")
    return "\n\n".join(text) + "\n"


def _href(name: Name) -> str:
    return api_path(name.module).removeprefix("api/").replace(".md", f".html#{name.path}")


def _count(name: Name) -> str:
    return f" <small>{len(name.tests)}</small>" if name.tests else ""


def _module_page(module: str, own: list[Name]) -> str:
    path = names.modules()[module]
    title = module.removeprefix("genjax.")
    text = [
        f"---\ntitle: {title}\n---",
        f"# {module.replace('.', '.<wbr>')} {{ #{module} }}",
        names.module_doc(path),
    ]
    if len(own) > 1:
        proven = any(name.tests for name in own)
        rows = [
            f"| [`{name.name}`][{name.path}] | {_cell(name.summary)} |"
            + (f" {_link_to_proofs(name)} |" if proven else "")
            for name in own
        ]
        head = "| Name | | Proofs |\n|---|---|---|" if proven else "| Name | |\n|---|---|"
        text.append("\n".join(['<div class="cards" markdown>\n', head, *rows, "\n</div>"]))
    for name in own:
        text += [f"::: {name.path}", *_same_as(name), *_proofs_of(name)]
    return "\n\n".join(text) + "\n"


def _same_as(name: Name) -> list[str]:
    if name.own_doc or not name.kind:
        return []
    return [f"The value `{name.kind}()`: see [`{name.kind}`][{name.module}.{name.kind}]."]


def _link_to_proofs(name: Name) -> str:
    return f'<a href="#proofs-{name.path}">{len(name.tests)}</a>' if name.tests else ""


def _cell(text: str) -> str:
    return re.sub(r"([|*<])", r"\\\1", text)


def _proofs_of(name: Name) -> list[str]:
    if not name.tests:
        return []
    files: dict[str, list[str]] = {}
    for file, test in name.tests:
        files.setdefault(file, []).append(test)
    count = f"{len(name.tests)} test{'s' * (len(name.tests) > 1)}"
    lines = [f'<span id="proofs-{name.path}"></span>', "", f'??? proofs "Proven by {count}"', ""]
    for file, tests in files.items():
        lines += [f"    [{file}][{_anchor(file)}]", ""]
        lines += [f"    - [{_words(test)}][{_anchor(file)}.{test}]" for test in tests] + [""]
    return ["\n".join(lines)]


def _words(test: str) -> str:
    return test.removeprefix("test_").replace("_", " ")


def _anchor(file: str) -> str:
    return f"tests.{file.removesuffix('.py').replace('/', '.')}"


def proof_pages() -> dict[str, str]:
    """{path: markdown}, a page per test file that proves a public name: its source, by tests."""
    files = {file for name in proofs.proven_names() for file, _ in name.tests}
    return {f"proofs/{file.removesuffix('.py')}.md": _proof_page(file) for file in sorted(files)}


def _proof_page(file: str) -> str:
    source = (proofs.TESTS / file).read_text()
    lines = source.splitlines()
    text = [
        f"---\ntitle: {file}\nsearch:\n  exclude: true\n---",
        f"# tests/{file} {{ #{_anchor(file)} }}",
    ]
    start = 0
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
            text += [*_code(lines[start:first])]
            text += [f"## {_words(node.name)} {{ #{_anchor(file)}.{node.name} }}"]
            start = node.end_lineno or node.lineno
            text += _code(lines[first:start])
    return "\n\n".join([*text, *_code(lines[start:])]) + "\n"


def _code(lines: list[str]) -> list[str]:
    block = "\n".join(lines).strip("\n")
    return [f"````python\n{block}\n````"] if block.strip() else []


# Pages whose text lies elsewhere in the repository, because it is read there too.
INCLUDED = {
    "ledger.md": "experiments/LEDGER.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}


def included_pages() -> dict[str, str]:
    """{path: markdown} of INCLUDED, links between them and into docs/ kept, others as code."""
    return {page: _included(ROOT / source) for page, source in INCLUDED.items()}


def _included(source: Path) -> str:
    places = {(ROOT / file).resolve(): page for page, file in INCLUDED.items()}

    def link(found: re.Match) -> str:
        label, target, fragment = found.groups("")
        path = (source.parent / target).resolve()
        if path in places:
            return f"[{label}]({places[path]}{fragment})"
        if path.is_relative_to(ROOT / "docs"):
            return f"[{label}]({path.relative_to(ROOT / 'docs')}{fragment})"
        return label if "`" in label else f"`{label}`"

    return re.sub(r"\[([^\]]+)\]\((?!https?:|#)([^)#\s]+)(#[^)]*)?\)", link, source.read_text())
