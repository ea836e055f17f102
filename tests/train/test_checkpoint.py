"""Checkpoints: restored as saved, damage is detected, latest and best are retained."""

import errno
import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.train import digests
from genjax.train.checkpoint import CheckpointError, Checkpoints, ReadError
from genjax.train.state import TrainState
from tests.logged import logged_lines


def state(value, size=1000):
    ones = jnp.full((size,), value, jnp.float32)
    return TrainState(jnp.int32(value), {"a": {"w": ones}}, {"a": ()}, {}, {"a": {"w": ones + 1}})


def saved(directory, steps, scores=None):
    checkpoints = Checkpoints(directory)
    for i, step in enumerate(steps):
        checkpoints.save(step, state(step), scores[i] if scores else None)
    checkpoints.close()
    return Checkpoints(directory)


def bytes_of(path):
    return path.read_bytes() if path.is_file() else b""


def contents(folder):
    return {str(p.relative_to(folder)): bytes_of(p) for p in folder.rglob("*") if p.is_file()}


def copied(source, target, old=False):
    """A checkpoint over another; `old`: with digests as earlier versions wrote them."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    if old:
        path = target / "digests.json"
        files = json.loads(path.read_text())["files"]
        path.write_text(json.dumps({name: about["sha256"] for name, about in files.items()}))


def linked(folder):
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(folder.with_name("elsewhere"))


def recorded(folder, **change):
    path = folder / "digests.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


def restored(checkpoints, **how):
    """(state, the lines of damage that were logged)"""
    with logged_lines("genjax.train.checkpoint") as lines:
        found = checkpoints.restore(state(0), **how)
    return found, lines


def test_the_latest_state_is_restored_completely(tmp_path):
    found, lines = restored(saved(tmp_path, [1, 2]))
    assert jax.tree.structure(found) == jax.tree.structure(state(2))
    jax.tree.map(np.testing.assert_array_equal, found, state(2))
    assert not lines


def test_an_empty_directory_holds_nothing(tmp_path):
    assert restored(Checkpoints(tmp_path)) == (None, [])


def test_the_latest_two_and_the_best_checkpoints_are_retained(tmp_path):
    checkpoints = saved(tmp_path, [1, 2, 3, 4, 5], [3.0, 1.0, 2.0, 4.0, 5.0])
    assert checkpoints.steps() == [2, 4, 5]
    assert checkpoints.best() == 2
    assert int(restored(checkpoints, step=2)[0].step) == 2


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_a_score_that_is_not_finite_never_ranks_best(tmp_path, bad):
    checkpoints = saved(tmp_path, [1, 2, 3, 4], [2.0, bad, 3.0, 4.0])
    assert checkpoints.best() == 1
    assert checkpoints.steps() == [1, 3, 4]


def test_a_flipped_byte_is_named_and_the_older_checkpoint_used(tmp_path):
    saved(tmp_path, [1, 2])
    arrays = (tmp_path / "2" / "state").rglob("*")
    victim = max((p for p in arrays if p.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    found, lines = restored(Checkpoints(tmp_path))
    assert int(found.step) == 1
    assert lines == [f"checkpoint 2 is skipped: {victim.relative_to(tmp_path / '2')} is damaged"]


def test_a_missing_file_and_damaged_digests_are_found(tmp_path):
    saved(tmp_path, [1, 2, 3], [0.0, 1.0, 2.0])
    (tmp_path / "3" / "digests.json").write_text("{")
    (tmp_path / "2" / "state" / "manifest.ocdbt").unlink()
    found, lines = restored(Checkpoints(tmp_path))
    assert int(found.step) == 1
    assert len(lines) == 2
    assert "digests.json is damaged" in lines[0]
    assert "2 is skipped: state/manifest.ocdbt is missing" in lines[1]


@pytest.mark.parametrize("score", ['{"score" 0.3}', '{"score": 0.0}'])
@pytest.mark.parametrize("read_only", [True, False])
def test_a_corrupted_score_counts_as_missing(tmp_path, read_only, score):
    saved(tmp_path, [1, 2, 3], [0.2, 0.1, 0.3]).close()
    (tmp_path / "3" / "metrics" / "metrics").write_text(score)
    checkpoints = Checkpoints(tmp_path, read_only=read_only)
    found, lines = restored(checkpoints)
    assert int(found.step) == checkpoints.best() == 2
    assert len(lines) == 1
    assert "metrics/metrics is damaged" in lines[0]


def test_a_damaged_checkpoint_is_never_the_best(tmp_path):
    saved(tmp_path, [1, 2], [0.2, 0.1]).close()
    (tmp_path / "2" / "state" / "manifest.ocdbt").unlink()
    assert Checkpoints(tmp_path, read_only=True).best() == 1


def test_incomplete_saves_are_set_aside_but_not_by_a_reader(tmp_path):
    saved(tmp_path, [1, 2])
    (tmp_path / "2" / "digests.json").unlink()
    before = contents(tmp_path)
    found, lines = restored(Checkpoints(tmp_path, read_only=True))
    assert int(found.step) == 1
    assert lines == ["checkpoint 2 is skipped: it was never completed"]
    assert contents(tmp_path) == before
    Checkpoints(tmp_path).set_aside_after(1)
    assert Checkpoints(tmp_path).steps() == [1]
    moved = {path.replace("2/", "2.damaged/", 1): c for path, c in before.items()}
    assert contents(tmp_path) == moved


def test_a_skipped_step_can_be_saved_again(tmp_path):
    saved(tmp_path, [1, 2])
    (tmp_path / "2" / "state" / "manifest.ocdbt").unlink()
    checkpoints = Checkpoints(tmp_path)
    restored(checkpoints)
    checkpoints.set_aside_after(1)
    checkpoints.save(2, state(2))
    checkpoints.close()
    assert int(restored(Checkpoints(tmp_path))[0].step) == 2


def test_another_architecture_is_reported_in_one_line(tmp_path):
    checkpoints = saved(tmp_path, [1])
    with pytest.raises(
        CheckpointError, match=r"a\.w is float32\[1000\] there and float32\[7\] here"
    ):
        checkpoints.restore(state(0, 7))


def test_arrays_of_another_type_are_rejected(tmp_path):
    checkpoints = saved(tmp_path, [1])
    halves = jax.tree.map(lambda x: x.astype(jnp.bfloat16), state(0).params)
    with pytest.raises(
        CheckpointError, match=r"is float32\[1000\] there and bfloat16\[1000\] here"
    ):
        checkpoints.restore(replace(state(0), params=halves))


@pytest.mark.parametrize("name", ["digests.json.half", "1/digests.json", "1/digests.json.half"])
def test_a_planted_link_is_never_written_through(tmp_path, name):
    saved(tmp_path / "run", [1]).close()
    (tmp_path / "precious").write_text("mine")
    link = tmp_path / "run" / name
    link.unlink(missing_ok=True)
    link.symlink_to(tmp_path / "precious")
    digests.write(tmp_path / "run" / "1", 1)
    assert (tmp_path / "precious").read_text() == "mine"
    assert (tmp_path / "run" / "1" / "digests.json").is_file()
    assert not (tmp_path / "run" / "1" / "digests.json").is_symlink()


def test_the_steps_since_the_last_row_are_kept_with_a_checkpoint_that_has_some(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state(1))
    checkpoints.save(2, state(2), last_row=1, window={"steps": 1, "loss": 0.5})
    checkpoints.close()
    assert (tmp_path / "2" / digests.WINDOW).is_file()
    assert not (tmp_path / "1" / digests.WINDOW).exists()
    assert checkpoints.window(2) == {"steps": 1, "loss": 0.5}
    assert checkpoints.window(1) is None
    assert digests.last_row(tmp_path / "2") == 1


def test_what_a_killed_save_left_is_removed_by_the_next_writer_alone(tmp_path):
    saved(tmp_path / "run", [1]).close()
    (tmp_path / "mine").mkdir()
    scraps = [".saving-2-0123456789abcdef", ".deleting-1-0123456789abcdef"]
    scraps.append("2.orbax-checkpoint-tmp-17")
    for name in scraps:
        (tmp_path / "run" / name).mkdir()
    link = tmp_path / "run" / "3.orbax-checkpoint-tmp"
    link.symlink_to(tmp_path / "mine")
    Checkpoints(tmp_path / "run", read_only=True).close()
    assert {*scraps, link.name, "1"} <= {p.name for p in (tmp_path / "run").iterdir()}
    Checkpoints(tmp_path / "run").close()
    assert {p.name for p in (tmp_path / "run").iterdir()} - {"digests.json"} == {"1", link.name}
    assert (tmp_path / "mine").is_dir()


def test_a_folder_that_only_looks_like_a_step_is_left_alone(tmp_path):
    (tmp_path / "2024-thesis").mkdir()
    Checkpoints(tmp_path)
    assert (tmp_path / "2024-thesis").exists()


# In another process: the threads of a failed save leave warnings behind, some of them later.
FULL_DISK = """
import resource, sys
import numpy as np
from genjax.train import digests
from genjax.train.checkpoint import CheckpointError, Checkpoints, ReadError
from genjax.train.state import TrainState
from tests.logged import logged_lines

def state(step, w):
    return TrainState(np.int32(step), {"a": {"w": w}}, {"a": ()}, {}, {"a": {"w": np.ones(1000)}})

checkpoints = Checkpoints(sys.argv[1])
checkpoints.save(1, state(1, np.ones(1000)))
checkpoints.wait()
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
try:
    # Noise does not compress below the limit.
    checkpoints.save(2, state(2, np.random.default_rng(0).normal(size=100_000)))
    checkpoints.wait()
except CheckpointError as error:
    print(error)
    sys.exit(3)
"""


def test_a_failed_save_is_an_error_and_the_earlier_checkpoint_stays(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 3, done.stderr
    assert "failed: " in done.stdout
    assert done.stdout.count("\n") == 1
    found = Checkpoints(tmp_path, read_only=True)
    assert found.steps()[0] == 1
    assert found.damage(1) is None


def test_no_save_is_skipped_because_a_later_step_was_saved(tmp_path):
    assert saved(tmp_path, [3, 2]).steps() == [2, 3]


def test_only_checkpoints_after_the_restored_one_are_set_aside(tmp_path):
    checkpoints = saved(tmp_path, [1, 2])
    checkpoints.set_aside_after(1)
    assert checkpoints.steps() == [1]
    (tmp_path / "1").rename(tmp_path / "2")
    checkpoints.set_aside_after(1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2.damaged", "2.damaged-2"]


@pytest.mark.parametrize("there", ["2", "2.damaged"])
def test_where_no_checkpoint_can_be_used_the_start_is_refused_and_nothing_changed(tmp_path, there):
    saved(tmp_path, [2]).close()
    (tmp_path / "2" / "state" / "manifest.ocdbt").unlink()
    (tmp_path / "2").rename(tmp_path / there)
    before = contents(tmp_path)
    checkpoints = Checkpoints(tmp_path)
    assert restored(checkpoints)[0] is None
    with pytest.raises(CheckpointError, match=rf"can be used \({there}\).*--run.fresh"):
        checkpoints.set_aside_after(None)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_a_read_error_is_no_damage_and_changes_nothing(tmp_path, monkeypatch, number, step):
    saved(tmp_path, [1, 2]).close()
    if step == 1:
        (tmp_path / "2" / "state" / "manifest.ocdbt").unlink()
    before = contents(tmp_path)
    sha256 = digests.sha256

    def failing(path):
        if f"{tmp_path}/{step}/" in str(path):
            raise OSError(number, os.strerror(number), str(path))
        return sha256(path)

    monkeypatch.setattr(digests, "sha256", failing)
    for how in ({}, {"read_only": True}):
        checkpoints = Checkpoints(tmp_path, **how)
        with pytest.raises(ReadError, match=os.strerror(number)) as raised:
            checkpoints.restore(state(0))
        assert (raised.value.exit_code, str(raised.value).count("\n")) == (1, 0)
        assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["listdir", "scandir", "stat"])
def test_a_folder_that_cannot_be_listed_is_no_empty_one(tmp_path, monkeypatch, name):
    saved(tmp_path, [1, 2]).close()
    checkpoints = Checkpoints(tmp_path)
    call = getattr(os, name)

    def failing(path=".", **how):
        if f"{tmp_path}/2" in str(path):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return call(path, **how)

    monkeypatch.setattr(os, name, failing)
    with pytest.raises(ReadError, match="Stale file handle"):
        checkpoints.restore(state(0))


def test_a_read_error_while_orbax_loads_is_no_damage(tmp_path, monkeypatch):
    checkpoints = saved(tmp_path, [1, 2])
    before = contents(tmp_path)
    lines = ["Error reading local file: Input/output error [OS error 5: EIO]", "out of memory"]
    for line, expected in zip(lines, ["at the moment", "is intact but"], strict=True):

        def restore(*_, line=line):
            raise ValueError(line)

        monkeypatch.setattr(checkpoints._orbax, "restore", restore)
        with pytest.raises(CheckpointError, match=expected):
            checkpoints.restore(state(0))
    assert contents(tmp_path) == before


def test_folders_of_the_user_are_neither_checkpoints_nor_deleted(tmp_path):
    for name in ("2/notes.txt", "12/notes.txt", "12.damaged/x", "thesis/x", ".saving/x"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("mine")
    checkpoints = saved(tmp_path, [1, 2, 3])
    assert checkpoints.steps() == [2, 3]
    (tmp_path / "2" / "mine.txt").write_text("mine")
    checkpoints.save(4, state(4))
    checkpoints.save(5, state(5))
    checkpoints.close()
    kept = {p.relative_to(tmp_path) for p in tmp_path.rglob("*") if b"mine" in bytes_of(p)}
    names = "2.damaged/notes.txt 2/mine.txt 12/notes.txt 12.damaged/x thesis/x .saving/x"
    assert sorted(map(str, kept)) == sorted(names.split())
    assert Checkpoints(tmp_path).steps() == [2, 4, 5]


@pytest.mark.parametrize(
    ("harm", "line"),
    [
        (lambda two: (two / "digests.json").write_text("{}"), "digests.json is damaged"),
        (lambda two: (two / "more").write_text(""), "more is not in digests.json"),
        (lambda two: os.mkfifo(two / "pipe"), "pipe is no plain file"),
        (lambda two: copied(two.parent / "1", two), "it is the checkpoint of step 1"),
        (lambda two: copied(two.parent / "1", two, old=True), "it is the checkpoint of step 1"),
        (lambda two: linked(two), "it is a link"),
        (lambda two: recorded(two, step="2"), "digests.json is damaged"),
        (lambda two: recorded(two, files={}), "digests.json is damaged"),
        (lambda two: recorded(two, files={"x": {"sha256": 3}}), "digests.json is damaged"),
    ],
)
def test_digests_name_exactly_the_files_and_the_step(tmp_path, harm, line):
    saved(tmp_path, [1, 2]).close()
    harm(tmp_path / "2")
    found, lines = restored(Checkpoints(tmp_path))
    assert int(found.step) == 1
    assert lines == [f"checkpoint 2 is skipped: {line}"]


def test_digests_of_earlier_versions_are_read(tmp_path):
    saved(tmp_path, [1]).close()
    copied(tmp_path / "1", tmp_path / "2", old=True)
    copied(tmp_path / "2", tmp_path / "1")
    found, lines = restored(Checkpoints(tmp_path), step=1)
    assert (int(found.step), lines) == (1, [])


@pytest.mark.parametrize("score", ["3", '{"score": "x"}', "[" * 10**5, '{"score": NaN}', "{}"])
def test_a_forged_score_counts_as_missing(tmp_path, score):
    saved(tmp_path, [1, 2, 3], [0.3, 0.2, 0.1]).close()
    (tmp_path / "3" / "metrics" / "metrics").write_text(score)
    (tmp_path / "3" / "digests.json").unlink()
    digests.write(tmp_path / "3", 3)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.best() == 2
    checkpoints.save(4, state(4))
    checkpoints.close()
    assert checkpoints.steps() == [2, 3, 4]


def test_a_file_of_another_size_is_damaged_without_being_read(tmp_path, monkeypatch):
    saved(tmp_path, [1]).close()
    monkeypatch.setattr(digests, "sha256", lambda path: pytest.fail(f"read {path}"))
    assert digests.damage(tmp_path / "1", most_bytes=100) is None
    os.truncate(tmp_path / "1" / "state" / "manifest.ocdbt", 1 << 40)
    assert digests.damage(tmp_path / "1", most_bytes=100) == "state/manifest.ocdbt is damaged"
