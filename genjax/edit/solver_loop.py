"""What solvers of inverse problems share: the sampling loop of an observation, and its end."""

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import Array

from genjax.diffusion.protocols import Clip, Predict, Schedule, Target
from genjax.diffusion.sampling_loop import SamplingLoop
from genjax.edit.operator import Operator
from genjax.numerics import check_floats, check_has


def check_observation(y: Array, operator: Operator, linear: bool) -> None:
    """Checks that observations are such as an operator returns.

    Args:
      y: the observations, [B, ...].
      operator: A.
      linear: whether the solver needs a linear operator.

    Raises:
      TypeError: where `operator` is a function in place of an object.
      ValueError: where y is of integers or has not the shape of A x, or A is not linear but has to
        be.
    """
    check_has("adjoint solve pseudo_inverse", "operator.Operator(apply, shape)", operator=operator)
    check_floats(y=y)
    if linear and not operator.linear:
        raise ValueError(
            "this solver needs a linear operator: take dps or twisted_smc for one that is not"
        )
    x = jax.ShapeDtypeStruct((y.shape[0], *operator.shape), y.dtype)
    if (observed := jax.eval_shape(operator, x).shape) != y.shape:
        raise ValueError(f"y has shape {y.shape}, but the operator's output is {observed}")


def solver_loop(
    predict: Predict,
    key: Array,
    y: Array,
    operator: Operator,
    *,
    schedule: Schedule,
    target: Target,
    steps: Array,
    start: Array | None,
    clip: Clip | None,
    linear: bool = True,
) -> tuple[SamplingLoop, Array]:
    """The sampling loop of the images that an observation is of.

    Args:
      predict: (z [B, ...], t [B]) -> array like z, the prediction that `target` names.
      key: one PRNG key, or one per example [B].
      y: the observations, [B, ...].
      operator: A.
      schedule: has alpha(t), sigma(t) and log_snr(t).
      target: has to_data(prediction, z, alpha, sigma).
      steps: times [n + 1], strictly decreasing.
      start: z at steps[0], [B, *operator.shape]; None to draw it.
      clip: (low, high), or a function of x̂; None for none.
      linear: whether the solver needs a linear operator.

    Returns:
      The loop, and y in the dtype of its states.

    Raises:
      TypeError: where an argument is a class, a name or a flag in place of what it has to be.
      ValueError: where y is not the shape of A x, or A is not linear but has to be.
    """
    check_observation(y, operator, linear)
    shape = (y.shape[0], *operator.shape)
    loop = SamplingLoop(
        predict,
        key,
        shape,
        schedule=schedule,
        target=target,
        steps=steps,
        start=start,
        clip=clip,
        trajectory=False,
        strict=True,
    )
    return loop, y.astype(loop.start.dtype)


def project(x: Array, y: Array, operator: Operator, noise: float | Array) -> Array:
    r"""The image nearest to x that explains an observation without noise.

    $$
    x \mapsto x - A^+ A x + A^+ y
    $$

    Solvers end with it, as rounding and approximations leave A x a little off y.

    Args:
      x: [B, *operator.shape].
      y: [B, ...], shaped like A x.
      operator: A.
      noise: standard deviation of the noise in y.

    Returns:
      Like x; x itself where there is noise or A is not linear.
    """
    if not operator.linear:
        return x
    near = x - operator.pseudo_inverse(operator(x)) + operator.pseudo_inverse(y)
    return jnp.where(jnp.asarray(noise) > 0, x, near)


def run(
    loop: SamplingLoop,
    step: Callable[[Array, Any], Array],
    items: Any,
    y: Array,
    operator: Operator,
    noise: float | Array,
) -> Array:
    """The loop from its start to an image, and the projection of that on y.

    Args:
      loop: that of `solver_loop`.
      step: (z, item) -> z.
      items: any tree of columns, one row per evaluation of the network.
      y: [B, ...], shaped like A x.
      operator: A.
      noise: standard deviation of the noise in y.

    Returns:
      x [B, *operator.shape].
    """

    def both(z: Array, item: Any) -> tuple[Array, Array]:
        z = step(z, item)
        return z, z

    x, _ = loop.scan(both, loop.start, items)
    return cast(Array, loop.result(project(x, y, operator, noise), None, slice(0)))
