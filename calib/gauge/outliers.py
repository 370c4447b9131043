"""Which telescopes stand out from their siblings.

Apart from `arraycal.calib.result.verdict`, which a run that has nothing to fit needs, too: this
needs scipy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from arraycal.calib.fit.network import MANY_SIBLINGS

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["MIN_DEVIATION", "MIN_Z", "is_outlier", "least_z", "stands_out"]

#: A telescope stands out when it deviates from its siblings by this many times the expected
#: size of such a deviation *and* by this much: either alone is normal somewhere.
MIN_Z, MIN_DEVIATION = 5.0, 0.03

#: Chance that any telescope of a type stands out whose telescopes scatter normally. Few siblings
#: know their own scatter badly: of three, 5 times the scatter found is nothing rare.
FALSE_ALARM = 0.01

#: Beyond this factor from its siblings, `MIN_Z` alone counts: telescopes do not scatter so much.
ODD_FACTOR = 1.6

#: Degrees of freedom of the median absolute deviation of n numbers, over n.
MAD_FREEDOM = 0.4


def is_outlier(
    deviation: npt.NDArray[np.float64], z: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """What is far from zero, both in units of its error and by itself (NaN never is)."""
    return (abs(z) > MIN_Z) & (abs(deviation) > MIN_DEVIATION)


def least_z(n_telescopes: int) -> float:
    """Deviation over its expected size beyond which a telescope of a type stands out.

    Student's t with the degrees of freedom of the siblings' scatter as `network.leave_one_out`
    finds it, at a chance of `FALSE_ALARM` for all telescopes of the type together; never below
    `MIN_Z`. The median of n siblings adds pi / 2n to the variance of a deviation. Infinite where
    the siblings are too few to have a scatter.
    """
    n = n_telescopes - 1
    free = MAD_FREEDOM * n if n_telescopes >= MANY_SIBLINGS else n - 1.0
    if free <= 1:
        return np.inf
    rare = special.stdtrit(free, 1.0 - FALSE_ALARM / (2 * n_telescopes))
    return max(MIN_Z, float(rare) * float(np.sqrt(1.0 + np.pi / (2 * n))))


def stands_out(
    deviation: npt.NDArray[np.float64], z: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Telescopes of a type that stand out from their siblings.

    Parameters
    ----------
    deviation, z : array, shape (m,)
        From `network.leave_one_out`, of all telescopes of the type.

    Returns
    -------
    array of bool, shape (m,)
        Beyond `MIN_DEVIATION` and `MIN_Z`, and either beyond `least_z` or off by `ODD_FACTOR`.
    """
    odd = (abs(z) > least_z(len(z))) | (abs(deviation) > np.log(ODD_FACTOR))
    return np.asarray(is_outlier(deviation, z) & odd)
