"""metrics.jsonl and TensorBoard: rows of a resumed run, and links that are not followed."""

import os
import threading

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

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


def test_without_a_condition_a_resumed_run_keeps_every_row_up_to_its_step(tmp_path):
    written(tmp_path, 0, (1, {"a": 0.5}), (2, {"a": 0.25}), (3, {"a": 9.0}))
    assert written(tmp_path, 2) == [{"step": 1, "a": 0.5}, {"step": 2, "a": 0.25}]


def events(path):
    """The events of a TensorBoard file: records of a length, its check, the bytes, their check."""
    content = path.read_bytes()
    while content:
        size = int.from_bytes(content[:8], "little")
        yield Event.FromString(content[12 : 12 + size])
        content = content[16 + size :]


def test_tensorboard_is_told_from_which_step_on_older_events_are_void(tmp_path):
    written(tmp_path, 2, (3, {"a": 0.125}))
    (path,) = (tmp_path / "tensorboard").iterdir()
    found = list(events(path))
    (start,) = [e.step for e in found if e.session_log.status == SessionLog.START]
    assert start == 3
    scalars = [(e.step, v.tag, v.simple_value) for e in found for v in e.summary.value]
    assert scalars == [(3, "a", 0.125)]


def test_an_image_goes_to_tensorboard(tmp_path):
    writer = MetricsWriter(tmp_path, 0, enabled=True)
    writer.image(4, "samples", np.zeros((2, 3, 1), np.uint8))
    writer.close()
    (path,) = (tmp_path / "tensorboard").iterdir()
    images = [(e.step, v.tag, v.image) for e in events(path) for v in e.summary.value]
    ((step, tag, image),) = images
    assert (step, tag, image.height, image.width) == (4, "samples", 2, 3)


def test_another_process_writes_nothing(tmp_path):
    writer = MetricsWriter(tmp_path, 0, enabled=False)
    writer.write(1, {"a": 1.0})
    writer.image(1, "samples", np.zeros((2, 3, 1), np.uint8))
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


def test_a_number_that_is_not_finite_is_null(tmp_path):
    written(tmp_path, 0, (1, {"test/a": float("nan"), "test/b": 2.0}))
    assert '"test/a": null, "test/b": 2.0' in (tmp_path / "metrics.jsonl").read_text()


def test_a_damaged_line_is_reported_and_the_file_kept_as_it_was(tmp_path, caplog):
    written(tmp_path, 0, (1, {"a": 0.5}), (2, {"a": 0.25}), (3, {"a": 0.125}))
    path = tmp_path / "metrics.jsonl"
    damaged = path.read_bytes().replace(b"0.25", b"0.35")
    path.write_bytes(damaged)
    assert written(tmp_path, 3) == [{"step": 1, "a": 0.5}, {"step": 3, "a": 0.125}]
    assert (tmp_path / "metrics.jsonl.damaged").read_bytes() == damaged
    assert "1 damaged line(s) are skipped; the file as it was is metrics.jsonl.dam" in caplog.text


@pytest.mark.parametrize(("last", "missing"), [(2, False), (3, True)])
def test_rows_that_are_missing_at_the_end_are_reported(tmp_path, caplog, last, missing):
    written(tmp_path, 0, (2, {"a": 0.5}), (3, {"test/a": 0.25}))
    writer = MetricsWriter(tmp_path, 3, enabled=True, last_row=last)
    assert ("ends before step 3: rows are missing" in caplog.text) == missing
    assert writer.last_row == 2
    writer.write(4, {"a": 1.0})
    writer.write(5, {"test/a": 1.0})
    writer.close()
    assert writer.last_row == 4


def test_rows_are_kept_byte_for_byte(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step":1,"a":1e-3}\n')  # as an earlier version may have written it
    written(tmp_path, 1, (2, {"a": 0.5}))
    first, second = path.read_text().splitlines()
    assert first == '{"step":1,"a":1e-3}'
    assert second.startswith('{"step": 2, "a": 0.5, "crc": ')


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # closes the file
def test_a_full_disk_is_an_error_at_once_and_nothing_waits(tmp_path, monkeypatch):
    from tensorboardX import record_writer

    full = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(record_writer, "open_file", lambda path: os.fdopen(full, "wb"))
    writer, before = MetricsWriter(tmp_path, 0, enabled=True), threading.active_count()
    for _ in range(12):  # a queue of ten would be full
        with pytest.raises(OSError, match="No space left"):
            writer.image(1, "samples", np.zeros((64, 64, 1), np.uint8))
    assert threading.active_count() == before


def test_a_new_run_has_no_row_yet_and_misses_none(tmp_path, caplog):
    writer = MetricsWriter(tmp_path, 0, enabled=True)
    assert writer.last_row == 0
    writer.close()
    assert caplog.text == ""
    assert MetricsWriter(tmp_path, 0, enabled=False).last_row == 0
