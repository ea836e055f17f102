"""`python -m genjax`: how it lists runs: complete, damaged, in progress and untrusted."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from genjax.cli import list_runs
from genjax.run.listing import FRESH
from genjax.train import digests

ROOT = Path(__file__).parent.parent.parent


def checkpoint(run, step, score=None):
    folder = run / "checkpoints" / str(step)
    (folder / "state").mkdir(parents=True)
    (folder / "state" / "data").write_bytes(bytes(range(256)))
    if score is not None:
        (folder / "metrics").mkdir()
        (folder / "metrics" / "metrics").write_text(json.dumps({"score": score}))
    digests.write(folder, step)
    return folder


@pytest.fixture
def run(tmp_path):
    """A finished run of two checkpoints, with a stage of one."""
    run = tmp_path / "runs" / "first"
    config = {"run": {"steps": 2000}, "encoder_steps": 3000}
    run.mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"experiment": "some_fashion", "config": config}))
    rows = [{"step": s, "test/kl": 1.0, "test/mse": 0.5 - s / 1e4} for s in (1000, 2000)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for row in rows:
        checkpoint(run, row["step"], row["test/mse"])
    checkpoint(run / "encoder", 1500)
    return run


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def listing(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        list_runs.main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return stop.value.code, captured.out.splitlines(), captured.err.splitlines()


def test_a_run_is_listed_with_steps_checkpoints_and_best_score(run, capsys):
    code, out, err = listing(capsys, run.parent)
    assert (code, err) == (0, [])
    first, stage = out[1:]
    assert first.split()[:6] == ["first", "some_fashion", "2,000", "of", "2,000", "finished"]
    assert "1,000 2,000 intact" in first
    assert first.endswith("mse 0.3 at 2,000")
    assert stage.split()[:6] == ["first/encoder", "some_fashion", "1,500", "of", "3,000", "50%"]


def test_a_single_run_is_listed_and_json_is_available(run, capsys):
    assert [line.split()[0] for line in listing(capsys, run)[1]] == ["run", "first", "encoder"]
    code, out, _ = listing(capsys, run, "--json")
    runs = json.loads("\n".join(out))
    assert code == 0
    assert [c["step"] for c in runs[0]["checkpoints"]] == [1000, 2000]
    assert runs[0]["best"] == ["mse", 0.3, 2000]


def test_lines_fit_a_narrow_terminal(run, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "84")
    out = listing(capsys, run.parent)[1]
    assert max(map(len, out)) <= 84
    assert "  best mse 0.3 at 2,000" in out


def test_damage_is_reported_by_file_and_by_the_exit_code(run, capsys):
    victim = run / "checkpoints" / "2000" / "state" / "data"
    raw = bytearray(victim.read_bytes())
    raw[100] ^= 1
    victim.write_bytes(raw)
    code, out, _ = listing(capsys, run.parent)
    assert code == 1
    assert "1,000 2,000! damaged" in out[1]
    assert "finished" not in out[1]
    assert out[2] == "  checkpoint 2,000: state/data is damaged"


def test_a_checkpoint_being_written_is_no_damage_but_an_old_incomplete_one_is(run, capsys):
    half = run / "checkpoints" / "3000"
    (half / "state").mkdir(parents=True)
    code, out, _ = listing(capsys, run)
    assert (code, "3,000" in out[1]) == (0, False)
    before = time.time() - FRESH - 1
    os.utime(half, (before, before))
    code, out, _ = listing(capsys, run)
    assert code == 1
    assert "  checkpoint 3,000: it was never completed" in out


def test_a_damaged_line_of_metrics_is_counted(run, capsys):
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 5, "\xff": 1}\n')
    code, out, _ = listing(capsys, run)
    assert code == 1
    assert "  metrics.jsonl: 1 damaged line(s)" in out


def test_a_sparse_terabyte_is_not_read_even_where_digests_name_it(run, capsys, monkeypatch):
    read = digests.sha256
    monkeypatch.setattr(
        digests, "sha256", lambda path: "0" * 64 if path.stat().st_size >> 40 else read(path)
    )
    folder = run / "checkpoints" / "2000"
    with (folder / "state" / "data").open("ab") as file:
        file.truncate(1 << 40)
    digests.write(folder, 2000)  # forged
    monkeypatch.setattr(
        digests,
        "sha256",
        lambda path: pytest.fail("read") if path.stat().st_size >> 40 else read(path),
    )
    code, out, _ = listing(capsys, run)
    assert code == 0
    assert "1,000 2,000 too large to read" in out[1]
    assert "mse 0.3 at 2,000" in out[1]


def test_what_cannot_be_read_is_named_and_no_traceback(run, capsys, monkeypatch):
    def failing(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(digests, "sha256", failing)
    code, out, _ = listing(capsys, run)
    assert code == 1
    assert "  checkpoint 2,000: it cannot be read at the moment: Input/output error" in out


def test_a_folder_of_the_user_beside_the_checkpoints_is_none(run, capsys):
    (run / "checkpoints" / "12").mkdir()
    (run / "checkpoints" / "12" / "notes.txt").write_text("mine")
    os.utime(run / "checkpoints" / "12", (0, 0))
    assert listing(capsys, run)[0] == 0


@pytest.mark.parametrize("place", ["nowhere", "empty", "file"])
def test_a_folder_without_runs_is_reported_in_one_line(tmp_path, capsys, place):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    code, out, err = listing(capsys, tmp_path / place)
    assert (code, out) == (2, [])
    assert len(err) == 1
    assert err[0].startswith("error: ")


def harm(run, kind):
    config, metrics = run / "config.json", run / "metrics.jsonl"
    if kind == "deep config":
        config.write_text('{"config": ' + "[" * 200_000)
    elif kind == "huge config":
        config.write_text('"' + "x" * (2 << 20) + '"')
    elif kind == "other config":
        config.write_text('{"model_type": "bert"}')
    elif kind == "odd steps":
        config.write_text(
            json.dumps({"experiment": "e", "config": {"run": {"steps": 10**400}}, "export": 3})
        )
    elif kind == "names":
        config.write_text(json.dumps({"experiment": "\x1b[2J\nx", "config": {"run": 3}}))
    elif kind == "metrics":
        deep, huge = "[" * 100_000, json.dumps({"step": 10**400, "a": 10**400})
        metrics.write_text(f'{{"step": "x"}}\n3\nnull\n{deep}\n{huge}\n{{"step": 7}}\n\0\n')
    elif kind == "score":
        checkpoint(run, 2500, {"a": 1})
    elif kind == "digests":
        (run / "checkpoints" / "2000" / digests.NAME).write_text("[" * 100_000)
    elif kind == "link":
        target = run / "checkpoints" / "2000" / "state" / "link"
        target.symlink_to("/etc/hostname")
    elif kind == "pipes":
        for path in (config, metrics, run / "checkpoints" / "2000" / digests.NAME):
            path.unlink()
            os.mkfifo(path)


KINDS = "deep config|huge config|other config|odd steps|names|metrics|score|digests|link|pipes"


@pytest.mark.parametrize("kind", KINDS.split("|"))
def test_an_untrusted_run_is_listed_without_a_traceback(run, capsys, kind):
    harm(run, kind)
    code, out, err = listing(capsys, run.parent)
    assert code in (0, 1) or kind == "pipes"
    assert out or err
    assert all(line.isprintable() for line in [*out, *err])
    assert all(len(line) < 500 for line in out)


def test_the_listing_changes_nothing_and_imports_nothing_heavy(run):
    def snapshot():
        return {p: (p.stat().st_mtime_ns, p.is_file() and p.read_bytes()) for p in run.rglob("*")}

    before = snapshot()
    code = (
        "import sys; from genjax.cli.list_runs import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print([m for m in ('jax', 'numpy', 'orbax', 'tyro') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "[]"
    assert snapshot() == before
