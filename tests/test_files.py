"""Files are written atomically, and no planted link is followed out of a run."""

import errno
import json
import os
from pathlib import Path

import pytest

from genjax import files
from genjax.errors import ConfigError
from genjax.run.directory import run_directory


def test_a_write_replaces_a_link_and_leaves_its_target(tmp_path):
    target, path = tmp_path / "target", tmp_path / "x.json"
    target.write_text("mine")
    path.symlink_to(target)
    files.write_json(path, {"a": 1})
    assert target.read_text() == "mine"
    assert not path.is_symlink()
    assert json.loads(path.read_text()) == {"a": 1}


def _write_half(path):
    with files.atomic_open(path) as file:
        file.write("half")
        file.write(None)


def test_a_write_that_fails_leaves_the_earlier_file_and_nothing_else(tmp_path):
    path = tmp_path / "x"
    path.write_text("before")
    with pytest.raises(TypeError):
        _write_half(path)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["x"]


def test_appending_follows_no_link(tmp_path):
    target, path = tmp_path / "target", tmp_path / "rows.jsonl"
    target.write_text("mine\n")
    path.symlink_to(target)
    with pytest.raises(OSError, match="symbolic link"):
        files.open_to_append(path)
    assert target.read_text() == "mine\n"


def test_appended_lines_are_flushed(tmp_path):
    with files.open_to_append(tmp_path / "rows.jsonl") as file:
        file.write("one\n")
        assert (tmp_path / "rows.jsonl").read_text() == "one\n"
    with files.open_to_append(tmp_path / "rows.jsonl") as file:
        file.write("two\n")
    assert (tmp_path / "rows.jsonl").read_text() == "one\ntwo\n"


def test_invalid_rows_are_skipped(tmp_path):
    path = tmp_path / "rows.jsonl"
    deep = "[" * 100_000
    path.write_text(
        f'{{"step": 1, "a": 2.5}}\nnot json\n{{"step": true}}\n{{"step": -1}}\n{deep}\n[1]\n'
        '{"step": 2, "a": "text"}\n{"step": 3, "a"'
    )
    assert files.read_rows(path) == [{"step": 1, "a": 2.5}, {"step": 2, "a": "text"}]
    numbers = files.read_rows(path, keep=lambda value: not isinstance(value, str))
    assert numbers[1] == {"step": 2}
    assert files.read_rows(tmp_path / "none") == []


def test_a_damaged_line_is_skipped_and_counted_whatever_it_holds(tmp_path, caplog):
    path = tmp_path / "rows.jsonl"
    rows = [{"step": i, "a": i / 3, "ü": [1, {"b": None}]} for i in range(1, 6)]
    lines = [files.row_line(row).encode() for row in rows]
    path.write_bytes(b"".join(lines))
    assert files.read_rows(path) == rows
    assert files.read_lines(path) == (list(zip(rows, lines, strict=True)), 0)
    assert not caplog.records
    lines[1] = lines[1].replace(b"0.6666666666666666", b"0.6666666656666666")
    lines[3] = b"\xff" + lines[3][1:]
    path.write_bytes(b"".join(lines))
    assert files.read_rows(path) == rows[::2]
    assert caplog.messages == [f"{path}: 2 damaged line(s) are skipped"]
    path.write_bytes(b"".join(lines[:1]) + lines[2][:-1])  # a kill cut its end off
    assert files.read_lines(path)[1] == 0


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe{\x00",
        b'{"step": 1, "\xed\xa0\x80": 1}',
        b'{"step": ' + b"9" * 5000 + b"}",
        b'{"step": 1, "crc": ' + b"9" * 5000 + b"}",
        b'{"step": 1, "crc": 1}',
        b'{"step": 1e3}',
        b"x" * files.MAX_LINE_BYTES,
        b'{"a":' * 100_000,
    ],
    ids=range(8),
)
def test_a_line_from_a_stranger_is_damage_and_no_error(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line + b"\n" + files.row_line({"step": 2}).encode())
    rows, damaged = files.read_lines(path)
    assert ([row for row, _ in rows], damaged) == ([{"step": 2}], 1)


def test_every_flipped_bit_of_a_line_but_of_its_checksums_name_is_seen(tmp_path):
    path = tmp_path / "rows.jsonl"
    line = bytearray(files.row_line({"step": 12, "loss": 0.125}).encode())
    first = files.row_line({"step": 11, "loss": 0.5}).encode()
    name = line.index(b', "crc": ')
    for bit in range(8 * (len(line) - 1)):
        if name <= bit // 8 < name + 9:
            continue
        flipped = bytearray(line)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(first + flipped)
        rows, damaged = files.read_lines(path)
        assert len(rows) == 1
        assert damaged


def test_a_line_is_appended_after_one_that_was_cut_short(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"step": 1, "a"')
    with files.open_to_append(path) as file:
        file.write(files.row_line({"step": 2}))
    assert files.read_rows(path) == [{"step": 2}]


def test_an_unused_name_is_found(tmp_path):
    assert files.unused(tmp_path / "x") == tmp_path / "x"
    (tmp_path / "x").symlink_to("nowhere")
    (tmp_path / "x-2").touch()
    assert files.unused(tmp_path / "x") == tmp_path / "x-3"


def test_a_row_that_lists_a_large_batch_is_read(tmp_path):
    row = {"step": 1, "images": [*range(10**6, 10**6 + 50_000)]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    assert files.read_rows(tmp_path / "rows.jsonl") == [row]


@pytest.mark.parametrize(
    ("text", "message"), [("[]", "object"), ("[" * 10**5, "deep"), (" " * 101, "over")]
)
def test_untrusted_json_is_rejected_in_one_line(tmp_path, text, message):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        files.read_json(path, 100 if message == "over" else files.MAX_JSON_BYTES)


def test_json_has_null_where_a_number_is_none_of_its_own(tmp_path):
    values = {"a": [float("nan"), 1.5], "b": {"c": (float("-inf"), "NaN", 2, True, None)}}
    files.write_json(tmp_path / "x.json", values)

    def constant(name):
        pytest.fail(f"{name} is no JSON")

    found = json.loads((tmp_path / "x.json").read_text(), parse_constant=constant)
    assert found == {"a": [None, 1.5], "b": {"c": [None, "NaN", 2, True, None]}}


def test_a_path_of_a_user_has_its_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert files.user_path("~/x") == files.user_path("x") == tmp_path / "x"
    assert run_directory("any", "~/x") == tmp_path / "x"
    assert run_directory("any", None) == tmp_path / "runs" / "any"
    assert files.user_path("~nobody-of-that-name/x") == tmp_path / "~nobody-of-that-name" / "x"


def test_a_path_that_nothing_can_have_or_nobody_can_look_at_is_refused_in_a_line(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for given, why in (("x" * 5000, "File name too long"), ("a\0b", ".*embedded null")):
        with pytest.raises(ConfigError, match=f"cannot be used: {why}") as error:
            files.user_path(given)
        assert len(str(error.value)) < 300

    def closed(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "lstat", closed)
    with pytest.raises(ConfigError, match=r"private/x cannot be used: Permission denied$"):
        files.user_path("private/x")
    monkeypatch.undo()
    (tmp_path / "file").touch()
    os.symlink("nowhere", tmp_path / "dangling")
    for name in ("file/x", "dangling", "none"):
        assert files.user_path(tmp_path / name) == tmp_path / name
