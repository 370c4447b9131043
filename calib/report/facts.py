"""What a report says in words and numbers, whatever it is written in."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl

from arraycal.calib.wording import relative

if TYPE_CHECKING:
    from collections.abc import Iterator

    from arraycal.calib.result.result import CalibrationResult

__all__ = [
    "CHI_SQUARED",
    "MISSING",
    "digest",
    "fixed",
    "key_facts",
    "moment",
    "nights",
    "observations",
    "shown_fact",
]

#: Stands for a number there is not.
MISSING = "\N{EN DASH}"
CHI_SQUARED = "\N{GREEK SMALL LETTER CHI}\N{SUPERSCRIPT TWO}"


def observations(result: CalibrationResult) -> str:
    """Which observations went in, in a few words."""
    ids = result.obs_ids
    if not ids:
        return "no observation"
    if len(ids) == 1:
        return f"observation {ids[0]}"
    return f"{len(ids)} observations, {ids[0]} to {ids[-1]}"


def nights(result: CalibrationResult) -> str:
    """Which nights the observations are of, in a few words; empty if nobody knows."""
    made = result.provenance
    window = made.get("window")
    if isinstance(window, dict):
        return f"nights {window.get('from')} to {window.get('to')}"
    found = made.get("nights")
    if not isinstance(found, list) or not found:
        return ""
    return f"night {found[0]}" if len(found) == 1 else f"{len(found)} nights, {_ends(found)}"


def _ends(found: list[object]) -> str:
    return f"{found[0]} to {found[-1]}"


def digest(result: CalibrationResult) -> str:
    """Digest of the configuration, by which the history knows it; empty if it is not stated."""
    made = result.provenance
    window = made.get("window")
    place = window if isinstance(window, dict) else made
    return str(place.get("configuration_digest", ""))


def moment(text: str) -> str:
    """Return a time (ISO 8601) as a reader wants it; any other text as it is.

    Examples
    --------
    >>> moment("2026-03-02T08:31:07.123+00:00")
    '2026-03-02 08:31 UTC'
    """
    try:
        return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, TypeError, OverflowError):
        return text


def key_facts(result: CalibrationResult) -> Iterator[tuple[str, str]]:
    """Yield what a reader wants to know before any table."""
    value = result.telescopes["value"]
    yield "telescopes with a coefficient", f"{value.is_finite().sum()} of {len(value)}"
    used = result.blocks.filter(pl.col("status") == "ok")
    yield "blocks in use", f"{len(used)} of {len(result.blocks)}"
    names = {
        "n_showers": "showers",
        "n_telescope_events": "telescope events",
        "estimator": "estimator",
        "gauge": "gauge",
        "unconstrained": "unconstrained",
    }
    for key, name in names.items():
        if key in result.fit:
            yield name, shown_fact(result.fit[key])
    yield "telescope pairs", f"{len(result.pairs):,}"
    chi2, ndf = (_number(result.fit.get(key)) for key in ("chi2", "ndf"))
    if ndf > 0 and math.isfinite(chi2):
        yield (
            f"{CHI_SQUARED} / degrees of freedom",
            (f"{chi2:,.1f} / {ndf:,.0f} = {chi2 / ndf:.3f}"),
        )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def shown_fact(value: object) -> str:
    """Return a fact of the fit as a reader wants it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return fixed(value, 3) if isinstance(value, float) else str(value).replace("_", " ")


def in_percent(log_difference: float, log_error: float = 0.0, digits: int = 2) -> tuple[str, str]:
    """Return a difference of logarithms and its error as relative ones in percent, `fixed`."""
    change, error = relative(log_difference, log_error)
    return fixed(100 * change, digits, "+"), fixed(100 * error, digits)


def fixed(value: float | None, digits: int, sign: str = "") -> str:
    """Return a number with fixed digits, a dash for none."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:{sign}.{digits}f}"
