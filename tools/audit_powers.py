"""How often audits raise a false alarm, and how often they find planted faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from genjax.data import drawing, fashion_mnist_6k
from genjax.evaluate import bias, collapse, copies, memorization, nearest, overfitting, spectrum
from genjax.evaluate.average import Average
from genjax.evaluate.features import network
from tools import planted

Row = tuple[str, ...]
SHARES = (0, 0.01, 0.05, 0.2)


def fashion() -> dict[str, np.ndarray]:
    with np.load(fashion_mnist_6k.ARCHIVE) as archive:
        found = {name: archive[name] for name in archive.files}
    return {k: v[..., None] if v.ndim == 3 else v for k, v in found.items()}


def shapes(n: int, stream: int) -> tuple[np.ndarray, drawing.Factors]:
    factors = drawing.factors(np.arange(n), stream)
    return drawing.draw(factors), factors


def percent(found: list[bool]) -> str:
    return f"{100 * np.mean(found):.1f} %"


def copies_found(
    training: np.ndarray, real: np.ndarray, repetitions: int, n: int, seed: int
) -> Iterator[Row]:
    """How often copies are found, by kind and share of the samples, with pixels."""
    generator, pixels = np.random.default_rng(seed), network.pixels(training.shape[1:])
    near = memorization.neighbours(real, training, pixels)

    def take(rows: np.ndarray, of: Any = near) -> Any:
        return jax.tree.map(lambda x: x[rows], of)

    for plant in planted.COPIES:
        chosen = generator.choice(len(training), min(2 * n, len(training)) // 5, replace=False)
        copied = memorization.neighbours(plant(training[chosen], generator), training, pixels)
        each: dict[float, list[bool]] = {share: [] for share in SHARES}
        c_t: list[bool] = []
        for share in SHARES:
            for _ in range(repetitions if share else 5 * repetitions):
                order, k = generator.permutation(len(real)), round(share * n)
                honest, held_out = take(order[: n - k]), take(order[n : 2 * n])
                some = take(generator.choice(len(chosen), k, replace=False), copied)
                samples = jax.tree.map(lambda *x: np.concatenate(x), honest, some)
                finding = memorization.decide(samples, held_out).finding
                each[share].append(finding.found)
                if share == SHARES[-1]:
                    c_t.append(finding.numbers["c_t_z"] < -2.33)
        yield plant.__name__, *(percent(each[share]) for share in SHARES), percent(c_t)


def collapses_found(repetitions: int, n: int, looks: int, seed: int) -> Iterator[Row]:
    """How often a collapse is found among n samples, with coarse pixels."""
    data, generator = fashion(), np.random.default_rng(seed)

    def coarse(images: np.ndarray) -> np.ndarray:
        return np.asarray(copies.reduced(images, copies.COARSE)).reshape(len(images), -1)

    x, labels = coarse(data["train_images"]), data["train_labels"]
    reference = collapse.Reference(coarse(data["test_images"]))
    blur = coarse(planted.blurred(data["train_images"][:3000], 2.0))

    def real() -> np.ndarray:
        return x[generator.choice(len(x), n, replace=False)]

    kinds: dict[str, Callable[[], np.ndarray]] = {
        "none: real images": real,
        "none: blurred images, sigma 2": lambda: blur[generator.choice(3000, n, replace=False)],
        "2 of 10 classes": lambda: x[planted.collapsed(labels, n, 2, generator)],
        "one class at 90 %": lambda: x[planted.collapsed(labels, n, None, generator)],
        "4 of 10 classes": lambda: x[planted.collapsed(labels, n, 4, generator)],
        "50 different images": lambda: x[generator.choice(50, n)],
    }
    for name, draw in kinds.items():
        times = repetitions * (5 if name == "none: real images" else 1)
        found = [collapse.collapse(draw(), reference, looks=looks).found for _ in range(times)]
        yield f"{n}", name, f"{times:,}", percent(found)


def simulated_shares(
    repetitions: int, k: int, accuracy: float, n: int, m: int, seed: int
) -> tuple[float, float, float]:
    """Coverage of the intervals, false alarms, and how often 10 more points are found."""
    generator, names = np.random.default_rng(seed), [str(i) for i in range(k)]
    held, alarms, found = [], [], []
    for _ in range(repetitions):
        p = 0.8 * generator.dirichlet(np.full(k, 3.0)) + 0.2 / k
        confusions = (1 - accuracy) * generator.dirichlet(np.full(k, 0.5), k)
        confusions += accuracy * np.eye(k)

        def read(truth: np.ndarray, confusions: np.ndarray = confusions) -> np.ndarray:
            u = generator.random((len(truth), 1))
            return (u > confusions.cumsum(1)[truth]).sum(1).clip(max=k - 1)

        truth, data = generator.choice(k, m, p=p), generator.choice(k, 6 * m, p=p)
        shift = 0.9 * p
        shift[p.argmin()] += 0.1
        for shares, found_in in ((p, alarms), (shift, found)):
            samples = read(generator.choice(k, n, p=shares))
            each = bias.shares(samples, read(truth), truth, data, names)
            gap = shares - p
            held.append(bool(((each.low <= gap) & (gap <= each.high)).all()))
            found_in.append(bool(each.differing.any()))
    return float(np.mean(held)), float(np.mean(alarms)), float(np.mean(found))


def drawn_shares(repetitions: int, n: int, seed: int) -> Iterator[Row]:
    """The same on drawn shapes: factors by the votes of the nearest images, or by a rule."""
    generator = np.random.default_rng(seed)
    (x, ours), (held_out, theirs), (pool, truth) = (shapes(3000, stream) for stream in range(3))
    pixels = network.pixels(x.shape[1:])
    rows = [
        nearest.nearest(pixels([y]), (pixels([b]) for b in nearest.blocks(x)), bias.VOTES)[1]
        for y in (held_out, pool)
    ]
    factors: dict[str, tuple[str, ...]] = {
        "background": tuple(drawing.BACKGROUNDS),
        "colour": tuple(drawing.COLOURS),
        "size": tuple(drawing.SIZES),
        "shape": tuple(drawing.SHAPES),
    }
    for name, names in factors.items():
        labels = getattr(ours, name)
        read = [bias.votes(each, labels, len(names)) for each in rows]
        known, true = getattr(theirs, name), getattr(truth, name)
        yield name, *_shares_found(read, known, true, labels, names, repetitions, n, generator)
        if name == "colour":
            read = [planted.colours_read(images) for images in (held_out, pool)]
            each = _shares_found(read, known, true, labels, names, repetitions, n, generator)
            yield "colour, by a rule", *each


def _shares_found(
    read: list[np.ndarray],
    known: np.ndarray,
    true: np.ndarray,
    labels: np.ndarray,
    names: tuple[str, ...],
    repetitions: int,
    n: int,
    generator: np.random.Generator,
) -> Row:
    """Of what is read of held-out images and of a pool: accuracy, coverage, alarms and power."""
    k = len(names)
    held, alarms, found = [], [], []
    for _ in range(repetitions):
        some = generator.choice(len(known), n, replace=False)
        for extra, found_in in ((0.0, alarms), (0.1, found)):
            shares = np.full(k, (1 - 1 / k - extra) / (k - 1))
            shares[0] = 1 / k + extra
            weights = (shares / np.bincount(true, minlength=k))[true]
            samples = generator.choice(len(true), n, p=weights / weights.sum())
            each = bias.shares(read[1][samples], read[0][some], known[some], labels, names)
            gap = shares - 1 / k
            held.append(bool(((each.low <= gap) & (gap <= each.high)).all()))
            found_in.append(bool(each.differing.any()))
    return f"{each.accuracy:.0%}", percent(held), percent(alarms), percent(found)


def faults_found(
    real: np.ndarray, others: np.ndarray, repetitions: int, n: int, seed: int
) -> Iterator[Row]:
    """How often blur and checkerboards are found, and the sharpness that they leave."""
    generator = np.random.default_rng(seed)
    kinds = {"none": others}
    kinds |= {f"blur, sigma {s:g}": planted.blurred(others, s) for s in (0.5, 1.0, 2.0)}
    kinds |= {
        f"checkerboard of {a} grey levels, period {p}": planted.checkered(others, a, p)
        for a, p in ((4, 2), (8, 2), (8, 4))
    }
    theirs = spectrum.frequencies(real)
    for name, images in kinds.items():
        ours, found = spectrum.frequencies(images), []
        for _ in range(repetitions):
            rows = generator.choice(len(images), n), generator.choice(len(real), n)
            x, y = (
                spectrum.Frequencies(*(each[some] for each in of))
                for of, some in zip((ours, theirs), rows, strict=True)
            )
            found.append((spectrum.blur(x, y), spectrum.checkerboard(x, y)))
        sharp = np.mean([a.numbers["sharpness"] for a, _ in found])
        yield (
            name,
            percent([a.found for a, _ in found]),
            percent([b.found for _, b in found]),
            f"{sharp:.2f}",
        )


def gaps_found(repetitions: int, seed: int) -> Iterator[Row]:
    """How often a gap between scores of training and held-out images is found."""
    generator = np.random.default_rng(seed)
    for n in (100, 300, 1000):
        row = []
        for gap in (0.0, 0.1, 0.3):
            found = []
            for _ in range(repetitions):
                train = {"nll": Average(generator.gamma(4, 0.5, n))}
                test = {"nll": Average(generator.gamma(4, 0.5, n) + gap)}
                found.append(overfitting.overfitting(train, test, {}).found)
            row.append(percent(found))
        yield f"{n:,}", *row
