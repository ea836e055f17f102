"""An exported classifier as a network of features."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from genjax import files
from genjax.errors import ConfigError, printable
from genjax.evaluate.features.network import FeatureNetwork
from genjax.models.classifier import Classifier
from genjax.run.export import load_weights
from genjax.run.recorded_images import data_settings, image_spec

PLAYER = "classifier"


def load_classifier(directory: str | os.PathLike[str]) -> FeatureNetwork:
    """A classifier that `experiments.classifier` exported, as a network of features.

        network = run.load_classifier("my_classifier")
        features, logits = network(batches), network.all_logits(batches)

    Args:
      directory: the exported folder.

    Returns:
      The network "classifier of NAME", named after the data set it was trained on. Its features are
      the averages over the image that its last layer sees; it takes images of the shape that it was
      trained on alone, which are not resized.

    Raises:
      ConfigError: where the folder holds no export of a classifier.
      WeightsError: where its weights are damaged.
    """
    folder = files.user_path(directory)
    values, weights = load_weights(folder)
    spec, params = image_spec(folder, values), weights["params"].get(PLAYER)
    try:
        network = _network(params)
        like = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *spec.shape)))
        fits = jax.tree.map(np.shape, params) == jax.tree.map(np.shape, like)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        fits = False
    if not fits or network.classes != spec.classes:
        raise ConfigError(
            f"{folder} is no classifier: give what `python -m experiments.classifier export` wrote"
        )
    params = jax.tree.map(jnp.asarray, params)
    data = data_settings(folder, values)
    return FeatureNetwork(
        printable(f"classifier of {data.folder or data.name}"),
        values["export"]["sha256"],
        "none",
        network.features,
        Partial(_Part(network, spec.shape, 0), params),
        Partial(_Part(network, spec.shape, 1), params),
    )


def _network(params: Any) -> Classifier:
    """The architecture, as the shapes of its weights tell."""
    layers = params["params"]
    widths = tuple(layers[f"Conv_{i}"]["kernel"].shape[-1] for i in range(len(layers) - 2))
    features, classes = (layers[f"Dense_{i}"]["kernel"].shape[-1] for i in range(2))
    return Classifier(widths, features, classes)


class _Part(NamedTuple):
    """The features (0) or the logits (1)."""

    network: Classifier
    shape: tuple[int, int, int]
    part: int

    def __call__(self, params: Any, images: jax.Array) -> jax.Array:
        if images.shape[1:] != self.shape:
            raise ValueError(f"this classifier takes images {self.shape}, not {images.shape[1:]}")
        found: Any = self.network.apply(params, images / 255)
        return found[self.part]
