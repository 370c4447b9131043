"""Judgement: which telescopes stand out, and whether a result may be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy import special

from calib.network import MANY_SIBLINGS
from calib.result import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = [
    "MIN_DEVIATION",
    "MIN_Z",
    "OUTLIER",
    "is_outlier",
    "judge",
    "least_z",
    "outliers_of",
    "stands_out",
    "with_remarks",
]

#: Flag of a telescope that stands out.
OUTLIER = "outlier"

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

#: Names in a sentence, before it says how many more there are.
MAX_NAMED = 8


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


def outliers_of(telescopes: pl.DataFrame) -> tuple[str, ...]:
    """Names of the telescopes that stand out, as ``MST 7``, in order."""
    found = telescopes.filter(pl.col("flag") == OUTLIER).sort("tel_type", "tel_id")
    return tuple(f"{kind} {tel_id}" for kind, tel_id in found.select("tel_type", "tel_id").rows())


def judge(telescopes: pl.DataFrame, blocks: pl.DataFrame, remarks: Sequence[str] = ()) -> Verdict:
    """Judge a result.

    Parameters
    ----------
    telescopes : DataFrame
        Schema ``calib.result.TELESCOPES``.
    blocks : DataFrame
        Schema ``calib.result.BLOCKS``.
    remarks : sequence of str
        Anything else that speaks against using the result as it is.

    Returns
    -------
    Verdict
        ``unusable`` without any coefficient; ``degraded`` when a block or a telescope was left
        out, a telescope stands out, or there are remarks; else ``usable``. Every reason
        names names.
    """
    missing = telescopes.filter(~pl.col("value").is_finite())
    reasons = []
    failed = blocks.filter(pl.col("status") != "ok")
    if len(failed):
        names = [path.rpartition("/")[2] for path in failed["path"]]
        reasons.append(f"{_count(names, 'block')} left out ({_listed(names)})")
    if len(missing):
        names = [f"{t}-{i}" for t, i in missing.select("tel_type", "tel_id").iter_rows()]
        why = ", ".join(
            f"{n} {flag}" for flag, n in missing["flag"].value_counts().sort("flag").iter_rows()
        )
        reasons.append(
            f"{_count(names, 'telescope')} without coefficient: {why} ({_listed(names)})"
        )
    odd = telescopes.filter((pl.col("flag") == OUTLIER) & pl.col("value").is_finite())
    if len(odd):
        rows = odd.sort("tel_type", "tel_id").select("tel_type", "tel_id", "reason").rows()
        names = [f"{t}-{i}: {reason}" if reason else f"{t}-{i}" for t, i, reason in rows]
        verb = "looks" if len(names) == 1 else "look"
        reasons.append(f"{_count(names, 'telescope')} {verb} wrong ({_listed(names)})")
    reasons.extend(remarks)
    if len(missing) == len(telescopes):
        return Verdict("unusable", tuple(reasons))
    return Verdict("degraded" if reasons else "usable", tuple(reasons))


def with_remarks(verdict: Verdict, remarks: Sequence[str]) -> Verdict:
    """Add what speaks against using a result as it is."""
    if not remarks:
        return verdict
    status = "degraded" if verdict.status == "usable" else verdict.status
    return Verdict(status, (*verdict.reasons, *remarks))


def _count(names: list[str], noun: str) -> str:
    return f"{len(names)} {noun}{'s' if len(names) != 1 else ''}"


def _listed(names: list[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
