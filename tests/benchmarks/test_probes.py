"""Notes and probes belong together: each probe is described, each described probe exists."""

import ast
import re
from pathlib import Path

import pytest

from benchmarks.probes import __main__ as probes

ROOT = Path(__file__).parents[2]
NOTES = {path.stem: path.read_text() for path in (ROOT / "docs" / "notes").glob("*.md")}
PAGES = sorted(NOTES.keys() - {"README"})
PART = r"- (Claim|Number|Machine|Versions|Date|Probe|Command): \S"


def test_every_probe_is_named_in_a_note_and_every_note_names_a_probe_that_exists():
    named = re.findall(r"python -m benchmarks\.probes (\w+)`", "\n".join(NOTES.values()))
    assert sorted(named) == probes.NAMES


@pytest.mark.parametrize("page", PAGES)
def test_every_fact_has_its_parts(page):
    facts = NOTES[page].split("\n## ")[1:]
    assert facts
    for fact in facts:
        parts = re.findall(PART, fact)
        assert parts[:5] == ["Claim", "Number", "Machine", "Versions", "Date"], fact
        assert re.search(r"- Date: \d{4}-\d{2}-\d{2}\n", fact), fact


@pytest.mark.parametrize("name", probes.NAMES)
def test_a_probe_names_the_code_that_its_fact_costs(name):
    tree = ast.parse((ROOT / "benchmarks" / "probes" / f"{name}.py").read_text())
    assigned = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "CODE"
    }
    assert (ROOT / assigned["CODE"]).is_file()
    assert any(isinstance(node, ast.FunctionDef) and node.name == "probe" for node in tree.body)
    assert ast.get_docstring(tree)
