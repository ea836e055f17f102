"""Which noise goes to which image of a batch: couple(x, eps, key) -> eps [B, ...] reordered.

A coupling is a quantity of the batch: with one key per example, example i's noise still depends on
the other examples. Where an axis named "data" is mapped (pmap, shard_map), each device couples the
complete batch and keeps its own rows, so that the number of devices changes nothing.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from genjax import keys
from genjax.numerics import check_floats, check_same_shape
from genjax.over_batch import DATA_AXIS, gather, own_rows


def independent(x: Array, eps: Array, key: Array) -> Array:
    r"""Noise as it was drawn.

    $$
    \pi(i) = i
    $$

    Args:
      x: the batch, [B, ...].
      eps: its noise, [B, ...].
      key: not used.

    Returns:
      `eps`.

    References:
      Lipman et al., "Flow Matching for Generative Modeling" (2022), arXiv:2210.02747.
    """
    return eps


def optimal_transport(x: Array, eps: Array, key: Array, axis_name: str | None = DATA_AXIS) -> Array:
    r"""The permutation of the noise with the least sum of squared distances.

    $$
    \min_\pi \sum_i \lVert x_i - \varepsilon_{\pi(i)} \rVert^2
    $$

    Exact, in $O(B^3)$ steps.

    Args:
      x: the batch, [B, ...].
      eps: its noise, [B, ...].
      key: not used.
      axis_name: the axis that splits the batch over devices, where one is mapped.

    Returns:
      `eps` reordered, [B, ...].

    Raises:
      ValueError: where x is of integers, or the shapes of x and eps differ.

    References:
      Pooladian et al., "Multisample Flow Matching: Straightening Flows with Minibatch Couplings"
        (2023), arXiv:2304.14772.
      Tong et al., "Improving and Generalizing Flow-Based Generative Models with Minibatch Optimal
        Transport" (2023), arXiv:2302.00482.
    """
    check_floats(x=x)
    check_same_shape(x=x, eps=eps)
    noise = gather(eps, axis_name)
    order = assignment(_cost(gather(x, axis_name), noise))
    return noise[own_rows(order, len(x), axis_name)]


class EntropicPlan(NamedTuple):
    """The result of `entropic_plan`.

    Attributes:
      log_plan: logarithms of the plan, its rows of sum 1, [B, B].
      residual: the largest difference of a column's sum from 1: how many times more or less often
        than once a noise serves.
    """

    log_plan: Array
    residual: Array


def entropic_plan(
    x: Array,
    eps: Array,
    regularization: float | Array,
    iterations: int | Array = 10_000,
    axis_name: str | None = DATA_AXIS,
    *,
    tolerance: float | Array = 1e-2,
) -> EntropicPlan:
    r"""The plan that `sinkhorn` draws from, and how far it is from doubly stochastic.

    $$
    \min_P \sum_{ij} P_{ij} \, \tfrac12 \lVert x_i - \varepsilon_j \rVert^2
    - \mathrm{regularization} \cdot H(P)
    $$

    Args:
      x: the batch, [B, ...].
      eps: its noise, [B, ...].
      regularization: the weight of the plan's entropy H, in the unit of the squared distance.
      iterations: the most of Sinkhorn's updates.
      axis_name: the axis that splits the batch over devices, where one is mapped.
      tolerance: the residual at which to stop.

    Returns:
      The plan of the global batch, [B, B]; its residual is above the tolerance where the bound of
      iterations came first.

    Raises:
      ValueError: where x is of integers, or the shapes of x and eps differ.

    References:
      Cuturi, "Sinkhorn Distances: Lightspeed Computation of Optimal Transport" (2013),
        arXiv:1306.0895, algorithm 1.
    """
    check_floats(x=x)
    check_same_shape(x=x, eps=eps)
    noise = gather(eps, axis_name)
    # Starting from ‖ε_j‖²/2 undoes `_cost`'s omission, which would take long to be found.
    start = -0.5 * jnp.sum(jnp.square(_rows(noise)), axis=1)
    cost = _cost(gather(x, axis_name), noise)
    log_plan = _plan(cost / regularization, start / regularization, iterations, tolerance)
    return EntropicPlan(log_plan, jnp.max(jnp.abs(jnp.exp(log_plan).sum(0) - 1)))


def sinkhorn(
    regularization: float | Array,
    iterations: int | Array = 10_000,
    axis_name: str | None = DATA_AXIS,
    *,
    tolerance: float | Array = 1e-2,
) -> Callable[[Array, Array, Array], Array]:
    r"""A coupling that draws each image's noise from its row of the entropic plan.

    $$
    j \sim P_{i \cdot}, \qquad P = \arg\min_P \sum_{ij} P_{ij} \,
    \tfrac12 \lVert x_i - \varepsilon_j \rVert^2 - \mathrm{regularization} \cdot H(P)
    $$

    over the doubly stochastic $P / B$, found by Sinkhorn's updates on logarithms. One noise may
    serve twice. The cost has a factor ½: torchcfm's `reg`, on squared distances without it, is
    twice this regularization. The smaller the regularization, the more updates are needed: some
    1,000 for 128 images of 3,072 elements at 0.05. `entropic_plan` tells the residual.

    Args:
      regularization: the weight of the plan's entropy H, in the unit of the squared distance.
      iterations: the most of Sinkhorn's updates.
      axis_name: the axis that splits the batch over devices, where one is mapped.
      tolerance: updates end where no noise serves more or less often than once by this much, on
        average over draws.

    Returns:
      couple(x, eps, key) -> eps [B, ...]; key is one key or one per example. It raises ValueError
      where x is of integers or the shapes of x and eps differ.

    References:
      Cuturi, "Sinkhorn Distances: Lightspeed Computation of Optimal Transport" (2013),
        arXiv:1306.0895.
      Tong et al., "Improving and Generalizing Flow-Based Generative Models with Minibatch Optimal
        Transport" (2023), arXiv:2302.00482.
    """

    def couple(x: Array, eps: Array, key: Array) -> Array:
        logits = entropic_plan(
            x, eps, regularization, iterations, axis_name, tolerance=tolerance
        ).log_plan
        if keys.is_single(key):
            order = jax.random.categorical(key, logits)
        else:
            order = jax.vmap(jax.random.categorical)(gather(key, axis_name), logits)
        return gather(eps, axis_name)[own_rows(order, len(x), axis_name)]

    return couple


def _rows(batch: Array) -> Array:
    return batch.reshape(batch.shape[0], -1).astype(jnp.float32)


def _cost(x: Array, eps: Array) -> Array:
    """½‖x_i − ε_j‖² less what depends on i or j alone, which no plan's order depends on: [B, B]."""
    cost = -jnp.matmul(_rows(x), _rows(eps).T, precision=jax.lax.Precision.HIGHEST)
    return jax.lax.stop_gradient(cost)


def _plan(
    cost: Array, start: Array, iterations: int | Array, tolerance: float | Array = 1e-2
) -> Array:
    """Logarithms of the plan's rows, each normalised: [B, B]."""
    # What all of a row or a column share would drown the rest in rounding.
    cost = cost - start[None, :]
    cost = cost - cost.mean(1, keepdims=True)

    def update(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        column, _, count = state
        row = -jax.nn.logsumexp(column[None, :] - cost, axis=1)
        after = -jax.nn.logsumexp(row[:, None] - cost, axis=0)
        # The logarithm of a column's sum is what the update changes.
        residual = jnp.max(jnp.abs(jnp.expm1(column - after)))
        return jnp.where(residual > tolerance, after, column), residual, count + 1

    def unfinished(state: tuple[Array, Array, Array]) -> Array:
        return (state[1] > tolerance) & (state[2] < iterations)

    column, infinite = jnp.zeros_like(start), jnp.asarray(jnp.inf, cost.dtype)
    column, *_ = jax.lax.while_loop(unfinished, update, (column, infinite, jnp.asarray(0)))
    return jax.nn.log_softmax(column[None, :] - cost, axis=1)


class _Search(NamedTuple):
    """Dijkstra's state on the way from one row to the nearest free column."""

    row: Array
    sink: Array  # the free column, -1 until found
    length: Array  # of the shortest path to `row`
    shortest: Array  # [n] lengths of the paths to the columns
    previous: Array  # [n] the row before each column
    done: Array  # [n] columns whose length is final
    visits: Array


class _Matching(NamedTuple):
    """The rows matched so far, and the dual prices that keep every reduced cost at 0 or above."""

    row_price: Array  # [n]
    column_price: Array  # [n]
    column_of: Array  # [n] the column of each row, -1 if it has none
    row_of: Array  # [n] the row of each column, -1 if it has none


def assignment(cost: Array) -> Array:
    r"""The permutation with the least total cost.

    $$
    \min_\pi \sum_i \mathrm{cost}[i, \pi(i)]
    $$

    Shortest augmenting paths with dual prices, exact but for float32's rounding of the sums. One
    lax loop without callbacks; a cost that is not finite ends with some array of indices.

    Args:
      cost: [n, n], finite.

    Returns:
      π, [n] integers.

    Raises:
      ValueError: where the cost is not a square matrix.

    References:
      Crouse, "On Implementing 2D Rectangular Assignment Algorithms", IEEE Transactions on Aerospace
        and Electronic Systems 52 (2016).
    """
    cost = jnp.asarray(cost)
    cost = cost.astype(jnp.promote_types(cost.dtype, jnp.float32))
    if cost.ndim != 2 or cost.shape[0] != cost.shape[1]:
        raise ValueError(f"cost must be [n, n], got {cost.shape}")
    n = cost.shape[0]
    zeros, free = jnp.zeros(n, cost.dtype), jnp.full(n, -1)

    def assign(start: Array, matching: _Matching) -> _Matching:
        found = _shortest_path(cost, start, matching)
        return _flip(_reprice(matching, found, start), found, start)

    return jax.lax.fori_loop(0, n, assign, _Matching(zeros, zeros, free, free)).column_of


def _shortest_path(cost: Array, start: Array, matching: _Matching) -> _Search:
    """From a row without a column to the nearest column without a row."""
    n = cost.shape[0]

    def visit(s: _Search) -> _Search:
        through = s.length + cost[s.row] - matching.row_price[s.row] - matching.column_price
        better = ~s.done & (through < s.shortest)
        shortest = jnp.where(better, through, s.shortest)
        previous = jnp.where(better, s.row, s.previous)
        column = jnp.argmin(jnp.where(s.done, jnp.inf, shortest))
        return _Search(
            row=matching.row_of[column],
            sink=jnp.where(matching.row_of[column] < 0, column, -1),
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
    return jax.lax.while_loop(lambda s: (s.sink < 0) & (s.visits < n), visit, blank)


def _reprice(matching: _Matching, found: _Search, start: Array) -> _Matching:
    """The prices under which the path found costs nothing."""
    row_price, column_price, _, row_of = matching
    slack = jnp.where(found.done, found.length - found.shortest, 0)
    # Every visited row but the first is the partner of a column that is done.
    partners = jnp.where(found.done & (row_of >= 0), row_of, len(row_of))
    row_price = row_price.at[partners].add(slack, mode="drop").at[start].add(found.length)
    return matching._replace(row_price=row_price, column_price=column_price - slack)


def _flip(matching: _Matching, found: _Search, start: Array) -> _Matching:
    """The pairs along the path exchanged, from its free column back to its first row."""
    n = len(matching.row_of)

    def flip(
        carry: tuple[Array, Array, Array, Array, Array],
    ) -> tuple[Array, Array, Array, Array, Array]:
        column, column_of, row_of, _, count = carry
        row = found.previous[column]
        after = column_of[row]
        column_of, row_of = column_of.at[row].set(column), row_of.at[column].set(row)
        return after, column_of, row_of, row == start, count + 1

    false, zero = jnp.asarray(False), jnp.asarray(0)
    carry = (found.sink, matching.column_of, matching.row_of, false, zero)
    carry = jax.lax.while_loop(lambda c: ~c[3] & (c[4] < n), flip, carry)
    return matching._replace(column_of=carry[1], row_of=carry[2])
