"""What the scores of sets of features cost: seconds and memory, on an idle machine.

python -m benchmarks.scores                      # 50,000 x 2,048, each score in its own process
python -m benchmarks.scores --n 10000 --only precision
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from genjax.evaluate.classifier_score import classifier_score
from genjax.evaluate.frechet import frechet, frechet_limit
from genjax.evaluate.kernel_distance import Gaussian, kernel_distance, median_distance
from genjax.evaluate.neighbours import neighbour_scores
from genjax.evaluate.sliced_wasserstein import sliced_wasserstein_score
from genjax.evaluate.vendi import vendi


def gaussian_kernel(x: np.ndarray, y: np.ndarray) -> object:
    return kernel_distance(x, y, Gaussian(median_distance(y)))


SCORES: dict[str, Callable] = {
    "frechet": frechet,
    "frechet_limit": frechet_limit,
    "kernel": kernel_distance,
    "gaussian_kernel": gaussian_kernel,
    "neighbours": neighbour_scores,
    "vendi": lambda x, y: vendi(x),
    "classifier": lambda x, y: classifier_score(x[:, :1000]),
    "sliced_wasserstein": sliced_wasserstein_score,
}


def features(n: int, d: int, seed: int) -> np.ndarray:
    """Features like a network's: not negative, of decreasing variance, [n, d]."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d), np.float32)
    x *= np.arange(1, d + 1, dtype=np.float32) ** -0.5
    return np.maximum(x, 0, out=x)


def measure(name: str, n: int, d: int) -> dict[str, object]:
    """Seconds and peak memory of one score, beside the features, in this process."""
    x, y = features(n, d, 0), features(n, d, 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, cpu = time.perf_counter(), time.process_time()
    SCORES[name](x, y)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "score": name,
        "n": n,
        "d": d,
        "seconds": seconds,
        "cpu": cpu,
        "MiB": (peak - before) / 1024,
    }


def main() -> None:
    """Prints one line per score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=50_000)
    parser.add_argument("--d", type=int, default=2048)
    parser.add_argument("--only", choices=SCORES, nargs="+", default=[*SCORES])
    parser.add_argument("--here", action="store_true", help="measure in this process, as JSON")
    given = parser.parse_args()
    for name in given.only:
        if given.here:
            print(json.dumps(measure(name, given.n, given.d)))
            continue
        words = ["--n", str(given.n), "--d", str(given.d), "--only", name, "--here"]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.scores", *words], check=True, capture_output=True
        )
        row = json.loads(done.stdout)
        line = f"{name:<20} {row['n']:>7,} x {row['d']:,}"
        taken = f"{row['seconds']:7.1f} s, {row['cpu']:7.1f} s of all cores"
        print(f"{line} {taken}  {row['MiB']:6.0f} MiB beside the features", flush=True)


if __name__ == "__main__":
    main()
