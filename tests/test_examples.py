"""The examples of the documentation run as they stand, in a folder of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import numpy as np
import pytest

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "docs" / "examples"
LINES = 45  # data and network included


@pytest.fixture
def folder(tmp_path, monkeypatch, own_sets):
    """An empty folder to work in, from where the library is found but no experiments are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TFDS_DATA_DIR", str(own_sets))
    monkeypatch.setenv("XLA_FLAGS", "")
    return tmp_path


def python(*words):
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["my_vae.py", "notebook.py", "bare_loop.py"])
def test_an_example_is_short_and_on_its_page(name):
    assert len((EXAMPLES / name).read_text().splitlines()) <= LINES
    pages = [page.read_text() for page in (ROOT / "docs").glob("*.md")]
    assert sum(f'--8<-- "docs/examples/{name}"' in page for page in pages) == 1


def test_the_script_trains_resumes_samples_and_exports_from_anywhere(folder):
    (folder / "elsewhere").mkdir()
    script = folder / "elsewhere" / "my_vae.py"
    script.write_text((EXAMPLES / "my_vae.py").read_text())
    flags = ["--run.every", "2", "--run.batch", "8", "--run.samples", "4"]
    assert "python elsewhere/my_vae.py sample" in python(script, "--help")
    python(script, "--run.steps", "2", *flags)
    assert "resumed at step 2 of 4" in python(script, "--run.steps", "4", *flags)
    assert "4 images" in python(script, "sample", "--n", "4")
    python(script, "export", "--to", "model")
    card = (folder / "model" / "README.md").read_text()
    assert "python elsewhere/my_vae.py sample model --n 16" in card
    assert re.search(r"^python elsewhere/my_vae.py --run.steps 4", card, re.MULTILINE)
    python(script, "sample", "model", "--n", "4", "--to", "drawn")
    ours, theirs = (
        np.load(f"{place}/sample_0.npz")["images"] for place in ("runs/my_vae", "drawn")
    )
    np.testing.assert_array_equal(ours, theirs)


def test_the_notebook_cells_run_and_resume(folder):
    source = (EXAMPLES / "notebook.py").read_text()
    assert "steps=1000" in source
    cells = [*re.split(r"^# %%.*\n", source.replace("steps=1000", "steps=3"), flags=re.M)[1:]]
    cells += [cells[-1], "assert samples.shape == (16, 16, 16, 1)\nsamples.std()"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=300).execute(cwd=str(folder))
    printed = [
        output.text
        for cell in notebook.cells
        for output in cell.outputs
        if output.output_type == "stream" and output.name == "stdout"
    ]
    assert printed == []
    assert float(notebook.cells[-1].outputs[0].data["text/plain"].split("(")[-1].rstrip(")")) > 0
    rows = (folder / "runs" / "discs" / "metrics.jsonl").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == 2 * ['{"step": 3']  # of training, and the alarm's
    assert "net/loss" in rows[0]
    assert "alarm/collapse" in rows[1]


def test_the_loop_without_the_engine_learns(folder):
    script = EXAMPLES / "bare_loop.py"
    error = float(python(script).split()[2])
    assert error < 0.06  # of the best constant image: 0.086
    assert os.listdir(folder) == []
