"""Checkpoints: restored as saved, damage is detected, latest and best are retained."""

import math
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.train import digests
from genjax.train.checkpoint import CheckpointError, Checkpoints
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


def test_incomplete_saves_are_removed_but_not_by_a_reader(tmp_path):
    saved(tmp_path, [1, 2])
    (tmp_path / "2" / "digests.json").unlink()
    reader = Checkpoints(tmp_path, read_only=True)
    assert (tmp_path / "2").exists()
    found, lines = restored(reader)
    assert int(found.step) == 1
    assert lines == ["checkpoint 2 is skipped: it was never completed"]
    assert Checkpoints(tmp_path).steps() == [1]


def test_a_skipped_step_can_be_saved_again(tmp_path):
    saved(tmp_path, [1, 2])
    (tmp_path / "2" / "state" / "manifest.ocdbt").unlink()
    checkpoints = Checkpoints(tmp_path)
    restored(checkpoints)
    checkpoints.discard_after(1)
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
    digests.write(tmp_path / "run" / "1")
    assert (tmp_path / "precious").read_text() == "mine"
    assert (tmp_path / "run" / "1" / "digests.json").is_file()
    assert not (tmp_path / "run" / "1" / "digests.json").is_symlink()


def test_a_folder_that_only_looks_like_a_step_is_left_alone(tmp_path):
    (tmp_path / "2024-thesis").mkdir()
    Checkpoints(tmp_path)
    assert (tmp_path / "2024-thesis").exists()


# In another process: the threads of a failed save leave warnings behind, some of them later.
FULL_DISK = """
import resource, sys
import numpy as np
from genjax.train import digests
from genjax.train.checkpoint import CheckpointError, Checkpoints
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


def test_only_checkpoints_after_the_restored_one_are_discarded(tmp_path):
    checkpoints = saved(tmp_path, [1, 2])
    checkpoints.discard_after(1)
    assert checkpoints.steps() == [1]
    checkpoints.discard_after(None)
    assert checkpoints.steps() == []
