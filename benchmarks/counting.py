"""Floating-point operations of a jax function, counted from its jaxpr."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core

from genjax.models.trilinear import convolve_p, correlate_p, spread_p


def count(function: Callable, *arguments: Any) -> float:
    """2 · multiply-adds of all matrix products and convolutions, as torch.utils.flop_counter does.

    Neither counts what is done element by element; both count a convolution's zero padding.
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: core.Jaxpr) -> float:
    return sum(_of(equation) for equation in jaxpr.eqns)


def _of(equation: core.JaxprEqn) -> float:
    parameters, inputs = equation.params, [v.aval for v in equation.invars]
    out = equation.outvars[0].aval if equation.outvars else None
    match equation.primitive.name:
        case "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            return 2 * out.size * math.prod(inputs[0].shape[axis] for axis in contracted)
        case "conv_general_dilated":
            numbers = parameters["dimension_numbers"]
            taps = inputs[1].size // inputs[1].shape[numbers.rhs_spec[0]]
            return 2 * out.size * taps
        case _ if equation.primitive in (convolve_p, spread_p, correlate_p):
            geometry = parameters["geometry"]
            # A pixel of y meets each tap once: [C, D] products.
            pixels = inputs[0].shape[0] * math.prod(geometry.y) * math.prod(geometry.kernel)
            return 2 * pixels * _channels(equation)
    times = parameters.get("length", 1) if equation.primitive.name == "scan" else 1
    return times * sum(_count(inner) for inner in _inner(parameters.values()))


def _channels(equation: core.JaxprEqn) -> int:
    a, b = (v.aval.shape for v in equation.invars)
    return a[3] * b[3] if equation.primitive is correlate_p else b[2] * b[3]


def _inner(values: Any) -> list[core.Jaxpr]:
    found = []
    for value in values:
        if isinstance(value, core.ClosedJaxpr):
            found.append(value.jaxpr)
        elif isinstance(value, core.Jaxpr):
            found.append(value)
        elif isinstance(value, tuple | list):
            found += _inner(value)
    return found
