"""The periodic evaluation: its score, and on which images."""

import jax
import jax.numpy as jnp
import numpy as np

from genjax.data import images_from_arrays
from genjax.files import read_rows
from genjax.run import Family, Settings
from genjax.run.periodic_eval import PeriodicEval
from genjax.train.game import initial_state
from genjax.train.layout import DataParallel
from genjax.train.metrics import MetricsWriter


def test_the_first_score_ranks_the_checkpoint(tmp_path):
    images = images_from_arrays(np.arange(20, dtype=np.uint8).reshape(20, 1, 1, 1))
    family = Family(
        game={},
        init=None,
        latent=(1,),
        generate=lambda state, key, z, label: jnp.zeros((len(z), 1, 1, 1)),
        validate=lambda state, keys, batch: {
            "zeal": batch["image"][:, 0, 0, 0].astype(jnp.float32),
            "apathy": jnp.ones(len(keys)),
        },
    )
    settings = Settings(steps=1, batch=8, samples=2)
    periodic_eval = PeriodicEval(
        family, DataParallel(1), images, settings, jax.random.key(0), tmp_path
    )
    metrics = MetricsWriter(tmp_path, 0, enabled=True)
    numbers, score = periodic_eval(1, initial_state({}, {}, {}), metrics)
    metrics.close()
    assert list(numbers) == ["test/zeal", "test/apathy"]
    assert numbers == {"test/zeal": 9.5, "test/apathy": 1}
    assert score == 9.5
    assert (tmp_path / "step_1.png").exists()
    assert read_rows(tmp_path / "metrics.jsonl") == []
