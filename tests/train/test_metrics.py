"""metrics.jsonl: rows of a resumed run, and links that are not followed."""

import pytest

from genjax.files import read_rows
from genjax.train.metrics import MetricsWriter


def written(directory, step, *rows, **how):
    writer = MetricsWriter(directory, step, enabled=True, **how)
    for number, values in rows:
        writer.write(number, values)
    writer.close()
    return read_rows(directory / "metrics.jsonl")


def test_a_resumed_run_keeps_the_rows_up_to_its_step(tmp_path):
    written(tmp_path, 0, (1, {"a": 0.5}), (2, {"a": 0.25}), (2, {"test/a": 1.0}), (3, {"a": 9.0}))
    rows = written(tmp_path, 2, (3, {"a": 0.125}), keep_row=lambda row: "test/a" not in row)
    assert rows == [{"step": 1, "a": 0.5}, {"step": 2, "a": 0.25}, {"step": 3, "a": 0.125}]


def test_another_process_writes_nothing(tmp_path):
    writer = MetricsWriter(tmp_path, 0, enabled=False)
    writer.write(1, {"a": 1.0})
    writer.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["metrics.jsonl", "metrics.half"])
def test_a_planted_link_is_never_written_through(tmp_path, name):
    (tmp_path / "run").mkdir()
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "run" / name).symlink_to(precious)
    assert written(tmp_path / "run", 0, (1, {"a": 0.5})) == [{"step": 1, "a": 0.5}]
    assert precious.read_text() == "mine"
    assert not (tmp_path / "run" / "metrics.jsonl").is_symlink()
