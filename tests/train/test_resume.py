"""A run stopped anywhere and resumed is the uninterrupted run, bit for bit."""

import jax
import numpy as np
import pytest

from tests.families import FAMILIES, batches, initial
from tools import measure_resume as resume
from tools.measure_devices import KEY, copied

# Inside an epoch and inside a dispatch of 5.
STOPS = [7]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What differs between a run and one in two processes, by part of the run."""
    place, name = tmp_path_factory.mktemp("resume"), "vae microbatches 2"
    images = resume.draw_images(place / "images")
    uninterrupted = resume.stopped(name, FAMILIES[name], images, place / "uninterrupted", [])
    parts = resume.stopped(name, FAMILIES[name], images, place / "parts", STOPS)
    assert resume.batches_resume(images, STOPS)
    return resume.compare(uninterrupted, parts)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["params", "opt_state", "ema", "variables"])
def test_a_run_stopped_inside_a_dispatch_resumes_bit_for_bit(found, part):
    assert not found[part]


@pytest.mark.slow
def test_a_run_stopped_inside_a_dispatch_logs_the_same_metrics(found):
    assert not found["rows"]


@pytest.mark.slow
def test_the_division_into_dispatches_changes_no_bit():
    family = FAMILIES["vae microbatches 2"].family()
    layout, start, data = copied(2), initial(family), batches(6)
    many, one = (layout.compile(family.game, scan_steps=n) for n in (3, 1))

    def run(dispatch, sizes):
        state, first = layout.place(start), 0
        for n in sizes:
            batch = {name: x[first : first + n] for name, x in data.items()}
            state, metrics = dispatch(state, KEY, layout.feed(batch))
            assert metrics["vae/loss"].shape == (n,)
            first += n
        assert state.step == first == 6
        return layout.gather(state)

    uninterrupted = run(many, [3, 3])
    jax.tree.map(np.testing.assert_array_equal, run(many, [1, 2, 3]), uninterrupted)
    # Without the loop around the step XLA fuses, and so rounds, otherwise.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        run(one, [1] * 6),
        uninterrupted,
    )
