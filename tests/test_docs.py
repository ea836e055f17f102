"""The site has all of genjax: every public name a docstring, every loss and sampler a test."""

import re
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.heavy

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module")
def pages():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS / "generate")
        import pages

        yield pages
        for name in ("pages", "proofs", "names", "drawings"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def proofs(pages):
    return pages.proofs


def test_every_public_name_of_losses_and_diffusion_has_a_docstring_and_a_test_that_names_it(proofs):
    names = [name for name in proofs.proven_names() if name.room in proofs.PROVEN]
    modules = {path for path in proofs.modules() if path.split(".")[1] in proofs.PROVEN}
    assert {name.module for name in names} == modules
    assert [n.path for n in names if not (n.doc and (n.tests or not n.wants_proof))] == []


def test_every_public_function_and_class_has_a_docstring(proofs):
    assert [name.path for name in proofs.public_names() if not name.doc] == []


def test_every_public_name_is_on_one_page_of_the_api(pages, proofs):
    shown = [
        line.removeprefix("::: ")
        for page in pages.api_pages().values()
        for line in page.splitlines()
        if line.startswith("::: ")
    ]
    assert sorted(shown) == sorted(name.path for name in proofs.public_names())
    assert len(set(shown)) == len(shown)


def test_every_link_to_a_test_leads_to_its_source(pages):
    api, proofs = "".join(pages.api_pages().values()), "".join(pages.proof_pages().values())
    linked = set(re.findall(r"\]\[(tests\.[^\]]*)\]", api))
    assert linked
    assert linked <= set(re.findall(r"{ #(tests\.[^ ]*) }", proofs))


def test_every_test_file_that_mirrors_no_module_is_accounted_for(proofs):
    files = {p for room in proofs.PROVEN for p in (proofs.TESTS / room).glob("test_*.py")}
    assert {str(p.relative_to(proofs.TESTS)) for p in files} <= set(proofs.test_files())
    assert all((proofs.TESTS / file).exists() for file in proofs.SHARED)
    stems = {path.rpartition(".")[2] for path in proofs.modules()}
    assert {stem for shared in proofs.SHARED.values() for stem in shared} <= stems


def test_every_drawing_of_a_protocol_has_its_columns_and_fits_a_phone(pages):
    from drawings import WIDTH, protocol

    sources = [
        source
        for path in DOCS.rglob("*.md")
        for source in re.findall(r"^```protocol\n(.*?)^```", path.read_text(), re.S | re.M)
    ]
    assert sources
    for source in sources:
        svg = protocol(source, "", "", {}, None)  # KeyError for a name that is no column
        assert svg.count("<polygon") == source.count(" -> ")
        edges = re.findall(r'<text x="([\d.]+)" y="[\d.]+">(.*?)</text>', svg)
        assert all(float(x) + 3 * len(label) <= WIDTH for x, label in edges)
