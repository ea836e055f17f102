"""The order of a run's images: pure in (seed, position), each image once per epoch."""

import subprocess
import sys

import numpy as np
import pytest

from genjax.data import DataError
from genjax.data.order import batch_indices, permutation, positions_to_indices


@pytest.mark.parametrize("n", [1, 7, 1000])
def test_an_epoch_is_a_permutation_and_epochs_and_seeds_differ(n):
    orders = [permutation(seed, epoch, n) for seed in (0, 1) for epoch in (0, 1)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(n))
    if n == 1000:
        assert len({order.tobytes() for order in orders}) == len(orders)


@pytest.mark.parametrize(("n", "size"), [(10, 4), (10, 10), (10, 64), (7, 3), (1, 5)])
def test_each_image_occurs_once_per_epoch_for_any_batch_size(n, size):
    epochs = 3
    batches = -(-epochs * n // size)
    seen = np.concatenate([batch_indices(5, b, size, n)[0] for b in range(batches)])
    for epoch in range(epochs):
        part = np.sort(seen[epoch * n : (epoch + 1) * n])
        np.testing.assert_array_equal(part, np.arange(n))


def test_slices_of_the_processes_make_the_global_batch():
    full = batch_indices(3, 11, 12, 50, scan_steps=4)
    for count in (1, 2, 3, 4, 12):
        parts = [
            batch_indices(3, 11, 12, 50, scan_steps=4, process_index=k, process_count=count)
            for k in range(count)
        ]
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), full)


def test_a_stack_holds_successive_batches():
    full = batch_indices(3, 5, 8, 50, scan_steps=6)
    np.testing.assert_array_equal(full, [batch_indices(3, 5 + i, 8, 50)[0] for i in range(6)])


def test_another_process_draws_the_same_order():
    code = "from genjax.data.order import batch_indices as f; print(f(9, 4, 16, 100).tolist())"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert output.strip() == str(batch_indices(9, 4, 16, 100).tolist())


def test_the_order_is_not_tied_to_the_file_order():
    # The mean rank distance of a random permutation is n / 3; its standard error here is < 1 %.
    n = 10_000
    distance = np.abs(permutation(0, 0, n) - np.arange(n)).mean()
    assert distance == pytest.approx(n / 3, rel=0.05)


def test_the_cached_permutation_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        permutation(0, 0, 10)[0] = 1


def test_large_positions_are_as_cheap_as_small_ones():
    start = 10**15
    np.testing.assert_array_equal(
        positions_to_indices(0, start, 4, 10), permutation(0, start // 10, 10)[:4]
    )


@pytest.mark.parametrize(
    ("seed", "b", "size", "processes"), [(0, 0, 10, 4), (0, 0, 0, 1), (0, -1, 4, 1), (-1, 0, 4, 1)]
)
def test_invalid_batches_raise_with_one_line(seed, b, size, processes):
    with pytest.raises(DataError) as raised:
        batch_indices(seed, b, size, 50, process_count=processes)
    assert "\n" not in str(raised.value)
