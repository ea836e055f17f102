"""Batches reach the device in order and unchanged; a data set that lies there trains alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.data import images_from_arrays
from genjax.train.layout import DataParallel
from tests.families import BATCH, FAMILIES, SPEC, initial
from tests.gpu.closeness import distance, floats, host

pytestmark = pytest.mark.gpu

COUNT, SCANNED, CALLS = 40, 2, 6


def images():
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, *SPEC.shape), np.uint8)
    return images_from_arrays(pixels, np.arange(COUNT, dtype=np.int32) % SPEC.classes)


def test_prefetched_batches_arrive_in_order_and_unchanged(device):
    """They are read, sent and consumed while later ones are prefetched."""
    layout, stop = DataParallel(1), SCANNED * CALLS
    read = [dict(batch) for batch in images().batches(0, 0, BATCH, scan_steps=SCANNED, stop=stop)]
    weights = np.arange(np.prod(SPEC.shape), dtype=np.int32).reshape(SPEC.shape)

    @jax.jit
    def fold(batch):
        pixels = batch["image"].astype(jnp.int32)
        return (pixels * jnp.broadcast_to(weights, pixels.shape)).sum((-1, -2, -3))

    sums = []
    for batch in images().batches(0, 0, BATCH, scan_steps=SCANNED, stop=stop):
        fed = layout.feed(batch)
        assert {d.platform for x in fed.values() for d in x.devices()} == {device.platform}
        sums.append(fold(fed))  # not awaited
    assert len(sums) == len(read) == CALLS
    for found, batch in zip(sums, read, strict=True):
        expected = (batch["image"].astype(np.int32) * weights).sum((-1, -2, -3))
        np.testing.assert_array_equal(np.asarray(found)[0], expected)


def test_a_data_set_on_the_device_takes_the_steps_of_batches_sent_to_it():
    family, layout, ends = FAMILIES["vae"].family(), DataParallel(1), []
    ways = (
        (None, images().batches(0, 0, BATCH, scan_steps=SCANNED)),
        (images().arrays, images().index_batches(0, 0, BATCH, scan_steps=SCANNED, stop=SCANNED)),
    )
    for held, batches in ways:
        steps = layout.compile(family.game, scan_steps=SCANNED, dataset=held)
        state = layout.place(initial(family))
        with jax.default_matmul_precision("highest"):
            state, metrics = steps(state, jax.random.key(1), layout.feed(next(batches)))
        ends.append(host((floats(layout.gather(state).opt_state), metrics)))
    # Two programs: float32 sums of a few hundred terms in two orders.
    assert distance(*ends) < 1e-5
