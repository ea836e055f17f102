"""The random images that every library reads."""

import numpy as np

from benchmarks.cases import Case

IMAGES = 4096  # in the data set that the input pipelines read
PIXELS = 256  # of the sampled images that two libraries compare


def random_images(case: Case, n: int) -> np.ndarray:
    """uint8 [n, H, W, C], the same in every process."""
    return np.random.default_rng(0).integers(0, 256, (n, *case.network.shape), np.uint8)
