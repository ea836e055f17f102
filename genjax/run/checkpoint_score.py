"""The score of samples during training, which ranks the checkpoints."""

from __future__ import annotations

import logging
from pathlib import Path

import jax

from genjax.errors import ConfigError
from genjax.evaluate.score import Score
from genjax.run import score_rows
from genjax.run.family import Family
from genjax.run.sampling import Sampler
from genjax.run.score_names import CheckpointScore
from genjax.run.scoring import RealImages, Scorer, kind_and_network, open_network
from genjax.train.state import TrainState

logger = logging.getLogger(__name__)

MOST_REFERENCES = 2000  # held-out images: what comparing takes must not delay training


class CheckpointScorer:
    """Scores samples of each periodic evaluation, from the same noise every time.

    Args:
      name: of the score.
      family: the family.
      real: the held-out images to compare with, and those it is trained on for the floor.
      n: samples to draw.
      path: of the file of scores.

    Raises:
      ConfigError: where the score cannot be computed: images are too few, weights are missing,
        there are no samples, or they come from what is fitted after training.
    """

    def __init__(
        self,
        name: CheckpointScore,
        family: Family,
        real: RealImages,
        n: int,
        path: Path,
    ):
        if family.generate is None:
            raise ConfigError("--run.score: this family makes no images; leave the flag out")
        if family.mixture:
            raise ConfigError(
                "--run.score: samples of this family come from a mixture that is fitted after "
                "training; `evaluate --scores` scores those"
            )
        self.name, self.path, self.n = name, path, n
        self.kind, network = kind_and_network(name)
        self.scorer = Scorer(real, n, open_network(network, real.shape), MOST_REFERENCES)
        self.scorer.check(self.kind, "--run.score-images")
        self._logged = False

    def __call__(self, step: int, sampler: Sampler, state: TrainState, key: jax.Array) -> Score:
        """Scores a state, and adds a row to the file of scores.

        Args:
          step: its step.
          sampler: of the family.
          state: on one device.
          key: of the samples' noise.

        Returns:
          The score.
        """
        drawn = sampler.drawn(state, key, self.n)
        score = self.scorer.score(self.kind, self.scorer.features(drawn))
        if not self._logged:
            logger.info("checkpoints are ranked by --run.score %s: %s", self.name, score)
            self._logged = True
        score_rows.append(self.path, step, [score])
        return score
