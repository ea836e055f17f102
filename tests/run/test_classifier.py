"""A family without `generate`: it trains, is evaluated and exported, and makes no images."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax import data, run
from genjax.errors import ConfigError
from genjax.losses.likelihoods import categorical_nll
from genjax.models.classifier import Classifier
from genjax.run import classification
from genjax.train import digests, weights
from genjax.train.game import Aux, Player

CLASSES = ("dark", "medium", "bright")


def family_of(network, shape):
    def init(key, before):
        return {"classifier": network.init(key, jnp.zeros((1, *shape)))}, {}

    def classify(state, images):
        return network.apply(state.averaged()["classifier"], images / 255)

    def loss(params, state, keys, batch):
        _, logits = network.apply(params["classifier"], batch["image"] / 255, keys=keys)
        return categorical_nll(logits, batch["label"]).mean(), Aux()

    def validate(state, keys, batch):
        _, logits = classify(state, batch["image"])
        return {"negative_log_likelihood": categorical_nll(logits, batch["label"])}

    game = {"classifier": Player(loss, optax.adam(3e-2))}
    return run.Family(game, init, None, validate=validate, classify=classify)


def labelled(n=120, shape=(6, 5, 1)):
    rng = np.random.default_rng(0)
    label = np.arange(n) % 3
    noise = rng.integers(0, 40, (n, *shape))
    return (noise + 100 * label[:, None, None, None]).clip(0, 255).astype(np.uint8), label


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    x, y = labelled()
    images = data.from_arrays(x, y, names=CLASSES)
    directory = str(tmp_path_factory.mktemp("run"))
    settings = run.Settings(steps=60, batch=32, every=30, devices=1, dir=directory)
    family = family_of(Classifier((8,), 16, len(CLASSES)), x.shape[1:])
    return run.train(family, images, settings)


def test_it_trains_and_draws_nothing(trained):
    assert trained.metrics[-1]["test/negative_log_likelihood"] < 0.5
    assert not list((trained.directory / "samples").glob("step_*"))


def test_it_is_evaluated_with_its_confusion(trained):
    found = trained.evaluate()
    assert found.n == found.of
    assert found.confusion.sum() == found.n
    wrong = found.n - np.trace(found.confusion)
    assert found.scores["error"].mean == pytest.approx(wrong / found.n)
    assert wrong < found.n / 4
    values = json.loads(json.dumps(found.as_dict()))
    assert values["confusion"] == found.confusion.tolist()
    assert values["classes"] == list(CLASSES)
    assert 0 <= values["calibration_error"] <= 1
    lines = str(found).splitlines()
    assert [line.split()[0] for line in lines[-3:]] == list(CLASSES)
    few = trained.evaluate(n=7, seed=3)
    assert few.n == few.confusion.sum() == 7
    for wrong in ({"n": 1}, {"n": -1}, {"seed": -1}):
        with pytest.raises(ConfigError, match="--n takes 2 images or more"):
            trained.evaluate(**wrong)
    unlabelled = dataclasses.replace(trained.images.test, labelled=False)
    with pytest.raises(ConfigError, match="has no labels"):
        classification.evaluate(trained.family.classify, trained.state, unlabelled)


def test_many_classes_are_not_printed(trained, monkeypatch):
    monkeypatch.setattr(classification, "MOST_SHOWN", 2)
    assert "dark" not in str(trained.evaluate())


def test_what_makes_images_is_refused_in_one_line(trained):
    x, _ = labelled(3)
    for use in (
        lambda: trained.sample(4),
        lambda: trained.sample(4, prior="gaussian"),
        lambda: trained.interpolate(),
        lambda: trained.reconstruct(x),
        lambda: trained.mixture,
    ):
        with pytest.raises(ConfigError) as caught:
            use()
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="makes no images"):
        trained.sample(4)


def test_a_family_has_latents_exactly_where_it_makes_images(trained):
    for change, message in (
        ({"latent": (2,)}, "has no latents"),
        ({"generate": lambda *_: None}, "a latent shape or a function"),
    ):
        with pytest.raises(ConfigError, match=message):
            dataclasses.replace(trained.family, **change)


def test_the_card_of_an_export_speaks_of_classes(trained, tmp_path):
    trained.export(tmp_path / "export")
    card = (tmp_path / "export" / "README.md").read_text()
    assert "image-classification" in card
    assert "run.load_classifier" in card
    assert "sample" not in card.replace('"samples"', "")  # a setting


def rewritten(folder, change):
    path = folder / "config.json"
    values = json.loads(path.read_text())
    values["images"].update(change)
    path.write_text(json.dumps(values))


def test_an_export_is_a_network_of_features(trained, tmp_path):
    folder = trained.export(tmp_path / "export")
    network = run.load_classifier(folder)
    x, _ = labelled(9)
    features, logits = trained.family.classify(trained.state, x)
    np.testing.assert_allclose(network([x[:4], x[4:]]), features, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(network.all_logits([x]), logits, rtol=1e-5, atol=1e-5)
    assert network.size == 16
    assert network.name == "classifier of arrays"
    assert network.sha256 == json.loads((folder / "config.json").read_text())["export"]["sha256"]
    with pytest.raises(ValueError, match="takes images"):
        jax.eval_shape(network.features, jax.ShapeDtypeStruct((2, 6, 6, 1), np.uint8))
    for change in ({"classes": 0}, {"classes": 4}, {"shape": [6, 5, 3]}, {"shape": [60, 5, 1]}):
        text = (folder / "config.json").read_text()
        rewritten(folder, change)
        with pytest.raises(ConfigError, match="is no classifier"):
            run.load_classifier(folder)
        (folder / "config.json").write_text(text)
    (folder / "model.safetensors").write_bytes(b"other")
    with pytest.raises(ConfigError, match="is damaged"):
        run.load_classifier(folder)


def test_an_export_of_other_networks_is_no_classifier(trained, tmp_path):
    folder = trained.export(tmp_path / "export")
    path = folder / "config.json"
    for layers in (
        {"Dense_0": (30, 16), "Dense_1": (16, 3)},  # no biases
        {"Conv_1": (3, 3, 1, 8), "Dense_0": (72, 16), "Dense_1": (16, 3)},
        {"Dense_0": (30, 16)},
        {"Dense_0": (), "Dense_1": ()},
    ):
        params = {"params": {name: {"kernel": np.zeros(shape)} for name, shape in layers.items()}}
        tree = {"params": {"classifier": params}, "variables": {}}
        weights.save(folder / "model.safetensors", tree, {})
        values = json.loads(path.read_text())
        values["export"]["sha256"] = digests.sha256(folder / "model.safetensors")
        path.write_text(json.dumps(values))
        with pytest.raises(ConfigError, match="is no classifier"):
            run.load_classifier(folder)
