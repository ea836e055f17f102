"""Hooks of mkdocs: adds the generated pages, MathML and links to papers, and checks the whole."""

import re

import drawings
import names
import pages
from mathml import FONT, with_mathml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

DOCS = names.ROOT / "docs"
_ARXIV = re.compile(r"(?<![\w/])arXiv:(\d{4}\.\d{4,5}|[a-z-]+/\d{7})")
_TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)
_seen: dict[str, list[str]] = {}  # {anchor of a name of genjax: the pages that have it}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fills the places of the navigation that follow the files, and adds the fence of drawings."""
    _seen.clear()
    pages.proofs.proven_names.cache_clear()  # of the build before, where mkdocs serves
    notes = sorted(f"notes/{path.name}" for path in (DOCS / "notes").glob("*.md"))
    notes.sort(key=lambda path: path not in ("notes/index.md", "notes/README.md"))
    rooms: list = ["api/index.md"]
    for room, modules in names.rooms().items():
        entries = [{module.rpartition(".")[2]: pages.api_path(module)} for module in modules]
        rooms.append({room or "beside the rooms": entries})
    filled = {"Notes": notes, "API": rooms}
    config.nav = _fill(config.nav or [], filled)
    fence = {"name": "protocol", "class": "protocol", "format": drawings.protocol}
    config.mdx_configs["pymdownx.superfences"] = {"custom_fences": [fence]}
    return config


def _fill(nav: list, filled: dict[str, list]) -> list:
    result = []
    for entry in nav:
        if isinstance(entry, dict):
            (title, inside), = entry.items()  # fmt: skip
            if title in filled:
                inside = filled[title]
            elif isinstance(inside, list):
                inside = _fill(inside, filled)
            entry = {title: inside}
            if not inside:
                continue
        result.append(entry)
    return result


def on_files(files: Files, config: MkDocsConfig) -> Files:
    made = {**pages.api_pages(), **pages.proof_pages(), **pages.included_pages()}
    for path, markdown in made.items():
        files.append(File.generated(config, path, content=markdown))
    files.append(File.generated(config, "assets/math.ttf", abs_src_path=str(FONT)))
    return files


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    for anchor in re.findall(r'id="(genjax\.[\w.]+)"', html):
        _seen.setdefault(anchor, []).append(page.file.src_uri)
    try:
        return with_mathml(_ARXIV.sub(_paper, _TABLE.sub(_labelled, html)))
    except ValueError as error:
        raise PluginError(f"{page.file.src_uri}: {error}") from error


def _labelled(found: re.Match) -> str:
    """A table whose cells know their headings, as site.css makes cards of it on a phone."""
    headings = re.findall(r"<th[^>]*>(.*?)</th>", found[0])

    def row(cells: re.Match) -> str:
        labels = iter(headings)
        return re.sub("<td", lambda _: f'<td data-label="{next(labels, "")}"', cells[0])

    return re.sub(r"<tr>.*?</tr>", row, found[0], flags=re.DOTALL)


def _paper(found: re.Match) -> str:
    return f'<a href="https://arxiv.org/abs/{found[1]}">{found[0]}</a>'


def on_post_build(config: MkDocsConfig) -> None:
    """Every public name is on one page; each has a docstring, each loss and sampler a proof."""
    faults = []
    for name in pages.proofs.proven_names():
        if len(_seen.get(name.path, ())) != 1:
            faults.append(f"{name.path} is on the pages {_seen.get(name.path, [])}, not on one")
        if not name.doc:
            faults.append(f"{name.path} has no docstring")
        if name.wants_proof and not name.tests:
            faults.append(f"{name.path} has no test that names it")
    if faults:
        raise PluginError("\n".join(["the site does not have all of genjax:", *faults]))
