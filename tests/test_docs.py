"""The site has all of genjax: every public name a docstring, every loss and sampler a test."""

import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture
def proofs(monkeypatch):
    monkeypatch.syspath_prepend(DOCS / "generate")
    import proofs

    yield proofs
    for name in ("proofs", "names"):
        sys.modules.pop(name)


def test_every_public_name_of_losses_and_diffusion_has_a_docstring_and_a_test_that_names_it(proofs):
    names = [name for name in proofs.proven_names() if name.room in proofs.PROVEN]
    modules = {path for path in proofs.modules() if path.split(".")[1] in proofs.PROVEN}
    assert {name.module for name in names} == modules
    assert [n.path for n in names if not (n.doc and (n.tests or not n.wants_proof))] == []


def test_every_public_function_and_class_has_a_docstring(proofs):
    assert [name.path for name in proofs.public_names() if not name.doc] == []


def test_every_test_file_that_mirrors_no_module_is_accounted_for(proofs):
    files = {p for room in proofs.PROVEN for p in (proofs.TESTS / room).glob("test_*.py")}
    assert {str(p.relative_to(proofs.TESTS)) for p in files} <= set(proofs.test_files())
    assert all((proofs.TESTS / file).exists() for file in proofs.SHARED)
    stems = {path.rpartition(".")[2] for path in proofs.modules()}
    assert {stem for shared in proofs.SHARED.values() for stem in shared} <= stems
