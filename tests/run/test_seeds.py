"""Several seeds in one command: runs like any other, and how their scores spread."""

import json
import logging
import os
import signal
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from PIL import Image

from genjax import data, run
from genjax.cli import list_runs
from genjax.cli.main import main
from genjax.data import DataSettings
from genjax.errors import ConfigError
from genjax.run import Settings, lock
from genjax.run.seeds import Spread
from genjax.train.game import Aux, Player
from genjax.train.keys import init_key
from genjax.train.layout import DataParallel
from genjax.train.loop import Stopped

LAYER = nn.Dense(2)
IMAGES = data.from_arrays(np.random.default_rng(0).integers(0, 256, (60, 1, 2, 1), np.uint8))


def luck(seed):
    return float(jax.random.uniform(init_key(jax.random.key(seed))))


def family(most=1.0):
    """A seed whose luck is above `most` meets a NaN."""

    def init(key, before):
        return {"net": LAYER.init(key, jnp.zeros((1, 2)))}, {
            "net": {"luck": jax.random.uniform(key)}
        }

    def loss(params, state, keys, batch):
        x = batch["image"].reshape(-1, 2) / 255
        noise = jax.vmap(lambda key: jax.random.normal(key, (2,)))(keys)
        error = jnp.mean((LAYER.apply(params["net"], 0.1 * noise) - x) ** 2)
        return jnp.where(state.variables["net"]["luck"] > most, jnp.nan, error), Aux()

    def generate(state, keys, z, label):
        return jax.nn.sigmoid(LAYER.apply(state.params["net"], z)).reshape(-1, 1, 2, 1)

    def validate(state, keys, batch):  # the earlier, the better
        score = state.step + state.variables["net"]["luck"]
        return {"score": jnp.ones(len(keys)) * score, "other": -jnp.ones(len(keys)) * score}

    player = Player(loss, optax.adam(1e-2))
    return run.Family({"net": player}, init, generate, latent=(2,), validate=validate)


FAMILY = family()


def settings(directory, steps=6, **more):
    how = {"batch": 8, "every": 2, "samples": 4, "devices": 1, "scan_steps": 2, **more}
    return run.Settings(steps, dir=str(directory), **how)


def untimed(restored):
    timings = {"images_per_second", "seconds"}
    return [{k: v for k, v in row.items() if k not in timings} for row in restored.metrics]


def trained(directory, steps=6, made=FAMILY, seeds=3, **more):
    return run.train_seeds(made, IMAGES, settings(directory, steps, seeds=seeds, **more), name="x")


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    directory = tmp_path_factory.mktemp("seeds") / "all"
    return directory, trained(directory)


def test_each_seed_is_a_run_like_any_other(original, tmp_path):
    directory, _ = original
    for seed in (0, 2):
        alone = run.train(FAMILY, IMAGES, settings(tmp_path / str(seed), seed=seed), name="x")
        among = run.open(directory / f"seed_{seed}", FAMILY)
        same(alone.state, among.state)
        assert untimed(alone) == untimed(among)
        theirs, ours = (
            json.loads((r.directory / "config.json").read_text()) for r in (alone, among)
        )
        assert theirs["config"]["run"].pop("dir") != ours["config"]["run"].pop("dir")
        assert theirs == ours


def test_the_train_steps_are_compiled_once(tmp_path, monkeypatch):
    compiled, before = [], DataParallel.compile
    monkeypatch.setattr(
        DataParallel, "compile", lambda *a, **b: compiled.append(b) or before(*a, **b)
    )
    made = family()
    trained(tmp_path / "all", 2, made, seeds=2)
    assert len(compiled) == 1
    trained(tmp_path / "other", 2, made, seeds=2, non_finite="skip")
    assert [each["skip_nonfinite"] for each in compiled] == [False, True]


def test_scores_are_mean_and_deviation_at_the_end_and_at_the_best(original):
    directory, found = original
    for at, step in ((found.end, 6), (found.best, 2)):
        scores = [step + np.float32(luck(seed)) for seed in range(3)]
        assert list(at["score"].values.values()) == pytest.approx(scores, rel=1e-6)
        assert at["score"].mean == pytest.approx(np.mean(scores), rel=1e-6)
        assert at["score"].deviation == pytest.approx(np.std(scores, ddof=1), rel=1e-5)
        assert at["other"].mean == pytest.approx(-np.mean(scores), rel=1e-6)
    values = json.loads((directory / "seeds.json").read_text())
    assert values["scores"]["end"]["score"]["n"] == 3
    assert values["scores"]["best"]["score"]["values"].keys() == {"0", "1", "2"}
    assert values["failed"] == {}
    head, score, _ = str(found).splitlines()
    assert head.split("  ")[0] == "mean ± standard deviation"
    at_end = f"{found.end['score'].mean:.5g} ± {found.end['score'].deviation:.2g} (n = 3)"
    assert score.startswith("score ")
    assert at_end in score
    assert Spread({0: 1.0}).as_dict()["n"] == 1
    assert np.isnan(Spread({0: 1.0}).deviation)


def test_the_grid_has_a_labelled_row_per_seed(original):
    directory, _ = original
    sheet = np.asarray(Image.open(directory / "samples" / "seeds.png"))
    drawn = run.open(directory / "seed_1", FAMILY).sample(8)
    margin = sheet.shape[1] - (8 * 66 + 2)
    height = sheet.shape[0] // 3
    tiles = sheet[height : 2 * height, margin:]
    np.testing.assert_array_equal(tiles[2 + 16, 2::66, 0][:8], drawn[:, 0, 0, 0])
    for row in range(3):
        assert (sheet[row * height : (row + 1) * height, :margin] < 128).any()


@pytest.mark.slow
def test_a_signal_stops_all_and_the_same_command_goes_on(original, tmp_path, caplog):
    directory = tmp_path / "all"

    class Kill(logging.Handler):
        def emit(self, record):
            if record.getMessage() == "seed 1":
                self.armed = True
            if "step      2 of 6" in record.getMessage() and getattr(self, "armed", False):
                os.kill(os.getpid(), signal.SIGTERM)

    handler, logger = Kill(), logging.getLogger("genjax")
    caplog.set_level("INFO", "genjax")
    logger.addHandler(handler)
    try:
        with pytest.raises(Stopped, match="step 4 is saved"):
            trained(directory)
    finally:
        logger.removeHandler(handler)
    assert sorted(path.name for path in directory.iterdir()) == ["lock", "seed_0", "seed_1"]
    caplog.clear()
    found = trained(directory)
    assert "already at step 6 of 6" in caplog.text  # seed 0
    assert "resumed at step 4 of 6" in caplog.text  # seed 1
    whole, before = original
    assert found.as_dict() == before.as_dict()
    for seed in range(3):
        same(*(run.open(place / f"seed_{seed}", FAMILY).state for place in (directory, whole)))


def test_a_seed_that_fails_is_reported_and_the_others_are_kept(tmp_path):
    worst = max(range(3), key=luck)
    made = family(most=sorted(map(luck, range(3)))[1])
    found = trained(tmp_path / "all", 2, made)
    assert found.failed.keys() == {worst}
    assert found.end["score"].values.keys() == {0, 1, 2} - {worst}
    values = json.loads((tmp_path / "all" / "seeds.json").read_text())
    assert values["failed"] == {str(worst): found.failed[worst]}
    assert "not finite at step 1" in found.failed[worst]


def test_places_that_hold_something_else_are_refused(original, tmp_path):
    directory, _ = original
    before = sorted(directory.iterdir())
    with pytest.raises(ConfigError, match=r"holds runs of 3 seeds: name one.* such as .*/seed_0$"):
        run.open(directory, FAMILY)
    with pytest.raises(ConfigError, match="not empty and holds no run"):
        run.train(FAMILY, IMAGES, settings(directory))
    with pytest.raises(ConfigError, match="is a run: give another"):
        trained(directory / "seed_0")
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="not empty and holds no seeds"):
        trained(tmp_path)
    with pytest.raises(ConfigError, match="train_seeds in place"):
        run.train(FAMILY, IMAGES, settings(tmp_path / "x", seeds=2))
    with pytest.raises(ConfigError, match="seeds must be at least 2"):
        settings(tmp_path, seeds=1)
    with pytest.raises(ConfigError, match="with how many"):
        trained(tmp_path / "x", seeds=None)
    with lock.locked(directory), pytest.raises(ConfigError, match=r"all is in use by process"):
        trained(directory)
    assert sorted(directory.iterdir()) == before


@dataclass(frozen=True)
class Config:
    run: Settings = Settings(steps=2, batch=4, samples=4, every=2, devices=1, scan_steps=1)
    data: DataSettings = DataSettings(size=2)


def build(config, spec):
    def generate(state, keys, z, label):
        return jnp.zeros((len(z), *spec.shape))

    def scores(state, keys, batch):
        return {"cost": jnp.ones(len(keys)) * state.variables["net"]["luck"]}

    made = family(most=sorted(map(luck, range(3)))[1])
    measure = run.Measure(scores, {"cost": "nats"})
    return run.Family(made.game, made.init, generate, latent=(2,), measure=measure)


def test_the_command_trains_lists_and_ends_with_1_where_a_seed_failed(tmp_path, capsys):
    for i in range(20):
        (tmp_path / "set").mkdir(exist_ok=True)
        Image.new("L", (2, 1), 10 * i).save(tmp_path / "set" / f"{i}.png")

    def command(*words):
        main("x", "", Config(), build, arguments=[str(word) for word in words])

    where = tmp_path / "all"
    flags = ["--data.size", 1, 2, "--data.folder", tmp_path / "set", "--run.dir", where]
    with pytest.raises(SystemExit) as stop:
        command(*flags, "--run.seeds", 3)
    assert stop.value.code == 1
    *done, failed = sorted(range(3), key=luck)
    out, err = capsys.readouterr()
    assert f"error: seed {failed}: " in err
    assert "there are no scores" in out
    for words in (["sample"], ["export", "--to", tmp_path / "export"]):
        with pytest.raises(SystemExit) as stop:
            command(words[0], where, *words[1:])
        assert stop.value.code == 2
        assert "holds runs of 3 seeds: name one of them" in capsys.readouterr().err
    command("evaluate", where)
    cost = json.loads((where / "evaluation.json").read_text())["scores"]["cost"]
    assert cost["values"].keys() == {str(seed) for seed in done}
    assert cost["mean"] == pytest.approx(np.mean([luck(seed) for seed in done]), rel=1e-6)
    assert f"{cost['mean']:.5g} ± {cost['deviation']:.2g} (n = 2)" in capsys.readouterr().out
    assert json.loads((where / f"seed_{done[0]}" / "evaluation.json").read_text())["n"] == 2
    with pytest.raises(SystemExit):
        list_runs.main([str(tmp_path)])
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert {f"all/seed_{seed}" for seed in range(3)} <= set(names)
    (where / "seeds.json").write_text('{"seeds": ["../x"]}')
    with pytest.raises(SystemExit):
        command("evaluate", where)
    assert "does not say which seeds" in capsys.readouterr().err
