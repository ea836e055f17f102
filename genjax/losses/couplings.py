"""Which noise goes to which image of a batch: couple(x, eps, key) -> eps [B, ...] reordered."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

# These are quantities of a batch: with one key per example, example i's noise still depends on
# the other examples. `over_devices` makes it the whole batch where devices share one.


def independent(x, eps, key):
    """eps as it was drawn. Lipman et al. 2022."""
    return eps


def optimal_transport(x, eps, key):
    """The permutation of eps with the least Σ ‖x_i − ε_π(i)‖², exactly, in O(B³) steps.

    Pooladian et al. 2023, "Multisample Flow Matching"; Tong et al. 2023, "Improving and
    Generalizing Flow-Based Generative Models with Minibatch Optimal Transport".
    """
    return eps[assignment(_cost(x, eps))]


def sinkhorn(regularization, iterations=100) -> Callable:
    """A noise for each x_i drawn from row i of the entropic plan: one noise may serve twice.

    The plan minimises Σ P_ij·½‖x_i − ε_j‖² − regularization·H(P) over the doubly stochastic P/B,
    found by `iterations` of Sinkhorn's updates on logarithms. Cuturi 2013; Tong et al. 2023.
    """

    def couple(x, eps, key):
        # Starting from ‖ε_j‖²/2 undoes `_cost`'s omission, which would take long to be found.
        start = -0.5 * jnp.sum(jnp.square(eps.reshape(len(eps), -1).astype(jnp.float32)), axis=1)
        logits = _plan(_cost(x, eps) / regularization, start / regularization, iterations)
        batch = key.ndim == (1 if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else 2)
        draw = jax.vmap(jax.random.categorical) if batch else jax.random.categorical
        return eps[draw(key, logits)]

    return couple


def over_devices(couple, axis_name="data") -> Callable:
    """`couple` on the whole batch, also where a pmap has split it along the axis of that name.

    Each device couples all of it and keeps its own part, so that the number of devices changes
    nothing. key: one per example, [B], or the same one on every device.
    """

    def whole(x, eps, key):
        try:
            jax.lax.axis_size(axis_name)
        except NameError:  # nothing is split
            return couple(x, eps, key)
        typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        raw = jax.random.key_data(key) if typed else key

        def gather(array):
            return jax.lax.all_gather(array, axis_name, tiled=True)

        if raw.ndim == 2:
            raw = gather(raw)
        key = jax.random.wrap_key_data(raw, impl=jax.random.key_impl(key)) if typed else raw
        first = jax.lax.axis_index(axis_name) * len(x)
        coupled = couple(gather(x), gather(eps), key)
        return jax.lax.dynamic_slice_in_dim(coupled, first, len(x))

    return whole


def _cost(x, eps):
    """½‖x_i − ε_j‖² less what depends on i or j alone, which no plan's order depends on: [B, B]."""
    if x.shape != eps.shape:
        raise ValueError(f"x and eps must have one shape: got {x.shape} and {eps.shape}")
    rows, columns = (v.reshape(v.shape[0], -1).astype(jnp.float32) for v in (x, eps))
    cost = -jnp.matmul(rows, columns.T, precision=jax.lax.Precision.HIGHEST)
    return jax.lax.stop_gradient(cost)


def _plan(cost, start, iterations):
    """Logarithms of the plan's rows, each normalised: [B, B]."""

    def update(_, column):
        row = -jax.nn.logsumexp(column[None, :] - cost, axis=1)
        return -jax.nn.logsumexp(row[:, None] - cost, axis=0)

    column = jax.lax.fori_loop(0, iterations, update, start)
    return jax.nn.log_softmax(column[None, :] - cost, axis=1)


class _Search(NamedTuple):
    """Dijkstra's state on the way from one row to the nearest free column."""

    row: jax.Array
    sink: jax.Array  # the free column, -1 until found
    length: jax.Array  # of the shortest path to `row`
    shortest: jax.Array  # [n] lengths of the paths to the columns
    previous: jax.Array  # [n] the row before each column
    done: jax.Array  # [n] columns whose length is final
    visits: jax.Array


def assignment(cost) -> jax.Array:
    """π [n] with the least Σ_i cost[i, π(i)]; cost is [n, n] and finite.

    Shortest augmenting paths with dual prices, exact but for float32's rounding of the sums.
    Crouse 2016, "On Implementing 2D Rectangular Assignment Algorithms". One lax loop, no callback;
    a cost that is not finite ends with some array of indices.
    """
    cost = jnp.asarray(cost)
    cost = cost.astype(jnp.promote_types(cost.dtype, jnp.float32))
    if cost.ndim != 2 or cost.shape[0] != cost.shape[1]:
        raise ValueError(f"cost must be [n, n], got {cost.shape}")
    n = cost.shape[0]
    free = jnp.full(n, -1)

    def assign(start, state):
        row_price, column_price, column_of, row_of = state

        def visit(s):
            through = s.length + cost[s.row] - row_price[s.row] - column_price
            better = ~s.done & (through < s.shortest)
            shortest = jnp.where(better, through, s.shortest)
            previous = jnp.where(better, s.row, s.previous)
            column = jnp.argmin(jnp.where(s.done, jnp.inf, shortest))
            return _Search(
                row=row_of[column],
                sink=jnp.where(row_of[column] < 0, column, -1),
                length=shortest[column],
                shortest=shortest,
                previous=previous,
                done=s.done.at[column].set(True),
                visits=s.visits + 1,
            )

        blank = _Search(
            row=start,
            sink=jnp.asarray(-1),
            length=jnp.zeros((), cost.dtype),
            shortest=jnp.full(n, jnp.inf, cost.dtype),
            previous=jnp.zeros(n, jnp.int32),
            done=jnp.zeros(n, bool),
            visits=jnp.asarray(0),
        )
        found = jax.lax.while_loop(lambda s: (s.sink < 0) & (s.visits < n), visit, blank)
        slack = jnp.where(found.done, found.length - found.shortest, 0)
        column_price = column_price - slack
        # Every visited row but the first is the partner of a column that is done.
        partners = jnp.where(found.done & (row_of >= 0), row_of, n)
        row_price = row_price.at[partners].add(slack, mode="drop").at[start].add(found.length)

        def flip(carry):
            column, column_of, row_of, _, count = carry
            row = found.previous[column]
            after = column_of[row]
            column_of, row_of = column_of.at[row].set(column), row_of.at[column].set(row)
            return after, column_of, row_of, row == start, count + 1

        carry = (found.sink, column_of, row_of, jnp.asarray(False), jnp.asarray(0))
        carry = jax.lax.while_loop(lambda c: ~c[3] & (c[4] < n), flip, carry)
        return row_price, column_price, carry[1], carry[2]

    zeros = jnp.zeros(n, cost.dtype)
    return jax.lax.fori_loop(0, n, assign, (zeros, zeros, free, free))[2]
