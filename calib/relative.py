"""Relative differences from differences of logarithms, as percent for people.

Everything is solved in ln c; -0.7 there is 50 % less. Tables keep the logarithms where their
documentation says ln; what is said in percent goes through here.
"""

from __future__ import annotations

import math

__all__ = ["percent", "relative"]

#: Ratios beyond which a percentage reads badly and the ratio itself is given.
MIN_RATIO, MAX_RATIO = 0.01, 10.0
#: Logarithm of the largest number there is: beyond it a ratio is infinite to nobody's use.
MAX_LOG = 709.0


def relative(log_difference: float, log_error: float = 0.0) -> tuple[float, float]:
    """Relative difference, and its error, of a difference of logarithms.

    Parameters
    ----------
    log_difference, log_error : float
        ln(a / b) and its standard error; NaN stays NaN.

    Returns
    -------
    tuple of float
        a / b - 1, and the error of it to first order.
    """
    bounded = log_difference if math.isnan(log_difference) else min(log_difference, MAX_LOG)
    return math.expm1(bounded), math.exp(bounded) * log_error


def percent(log_difference: float) -> str:
    """Text of a difference of logarithms: ``-50.0%``, or ``x 1e+30`` where percent reads badly."""
    change, _ = relative(log_difference)
    if MIN_RATIO <= 1.0 + change <= MAX_RATIO:
        return f"{change:+.1%}"
    return f"x {1.0 + change:.2g}" if change > 0 else f"x {math.exp(log_difference):.2g}"
