"""The page of losses is up to date, and every public name has a test."""

import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture
def build(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    return runpy.run_path(str(DOCS / "build.py"))


def test_the_page_of_losses_is_what_the_docstrings_and_tests_say(build):
    assert (DOCS / "losses.md").read_text() == build["page"](), "run python docs/build.py"


def test_every_public_name_has_a_docstring_and_a_test_that_names_it(build):
    entries = build["documented"]()
    assert len({(e.room, e.module) for e in entries}) == len(build["modules"]())
    assert [f"{e.module}.{e.name}" for e in entries if not (e.doc and e.tests)] == []


def test_every_test_file_that_is_no_modules_mirror_is_accounted_for(build):
    tests, modules = DOCS.parent / "tests", {p.stem for p in build["modules"]()}
    files = {p for room in build["ROOMS"] for p in (tests / room).glob("test_*.py")}
    others = {p for p in files if p.stem.removeprefix("test_") not in modules}
    shared = {tests / name for name in build["SHARED"]}
    assert others <= shared
    assert all(path.exists() for path in shared)
    assert {name for names in build["SHARED"].values() for name in names} <= modules
