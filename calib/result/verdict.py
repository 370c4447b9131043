"""Judgement: whether a result may be used, and what a reader must know."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from arraycal.calib.result.result import Verdict
from arraycal.calib.wording import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["OUTLIER", "judge", "listed", "outliers_of", "with_remarks", "with_untested"]

#: Flag of a telescope that stands out.
OUTLIER = "outlier"


def outliers_of(telescopes: pl.DataFrame) -> tuple[str, ...]:
    """Names of the telescopes that stand out, as ``MST 7``, in order."""
    found = telescopes.filter(pl.col("flag") == OUTLIER).sort("tel_type", "tel_id")
    return tuple(f"{kind} {tel_id}" for kind, tel_id in found.select("tel_type", "tel_id").rows())


def judge(telescopes: pl.DataFrame, blocks: pl.DataFrame, remarks: Sequence[str] = ()) -> Verdict:
    """Judge a result.

    Parameters
    ----------
    telescopes : DataFrame
        Schema ``arraycal.calib.result.result.TELESCOPES``.
    blocks : DataFrame
        Schema ``arraycal.calib.result.result.BLOCKS``.
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
    # A block without a shower has nothing that could be missed.
    failed = blocks.filter(~pl.col("status").is_in(["ok", "empty"]))
    if len(failed):
        names = [path.rpartition("/")[2] for path in failed["path"]]
        reasons.append(f"{_count(names, 'block')} left out ({listed(names)})")
    if len(missing):
        names = [f"{t}-{i}" for t, i in missing.select("tel_type", "tel_id").iter_rows()]
        why = ", ".join(
            f"{n} {flag}" for flag, n in missing["flag"].value_counts().sort("flag").iter_rows()
        )
        reasons.append(f"{_count(names, 'telescope')} without coefficient: {why} ({listed(names)})")
    odd = telescopes.filter((pl.col("flag") == OUTLIER) & pl.col("value").is_finite())
    if len(odd):
        rows = odd.sort("tel_type", "tel_id").select("tel_type", "tel_id", "reason").rows()
        names = [f"{t}-{i}: {reason}" if reason else f"{t}-{i}" for t, i, reason in rows]
        verb = "looks" if len(names) == 1 else "look"
        reasons.append(f"{_count(names, 'telescope')} {verb} wrong ({listed(names)})")
    reasons.extend(remarks)
    if len(missing) == len(telescopes):
        return Verdict("unusable", tuple(reasons))
    return Verdict("degraded" if reasons else "usable", tuple(reasons))


def with_remarks(verdict: Verdict, remarks: Sequence[str]) -> Verdict:
    """Add what speaks against using a result as it is."""
    if not remarks:
        return verdict
    status = "degraded" if verdict.status == "usable" else verdict.status
    return replace(verdict, status=status, reasons=(*verdict.reasons, *remarks))


def with_untested(verdict: Verdict, untested: Sequence[str]) -> Verdict:
    """Add what the data could not test."""
    return replace(verdict, untested=(*verdict.untested, *untested))


def _count(names: list[str], noun: str) -> str:
    return f"{len(names)} {noun}{'s' if len(names) != 1 else ''}"
