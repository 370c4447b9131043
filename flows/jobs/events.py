"""Events that arraycal sends to the Prefect server for its automations."""

from collections.abc import Sequence
from datetime import date

import polars as pl

__all__ = ["OUT_OF_RANGE", "TREND", "report_outliers", "report_trends"]

OUT_OF_RANGE = "arraycal.telescope.out-of-range"
TREND = "arraycal.telescope.trend"
OUTLIER = "outlier"


def report_outliers(calibration: str, telescopes: pl.DataFrame) -> bool:
    """Send an event if telescopes stand out; tell whether.

    Parameters
    ----------
    calibration : str
        Name of the observable.
    telescopes : DataFrame
        Schema ``arraycal.calib.result.result.TELESCOPES``.
    """
    outliers = telescopes.filter(pl.col("flag") == OUTLIER)
    if outliers.is_empty():
        return False
    from prefect.events import emit_event

    rows = outliers.select("tel_type", "tel_id", "reason").rows()
    names = [f"{tel_type} {tel_id}" for tel_type, tel_id, _ in rows]
    reasons = [f"{tel_type} {tel_id} ({reason})" for tel_type, tel_id, reason in rows]
    emit_event(
        OUT_OF_RANGE,
        resource={"prefect.resource.id": f"arraycal.calibration.{calibration}"},
        payload={
            "telescopes": names,
            "message": f"{calibration}: out of range: {'; '.join(reasons)}",
        },
    )
    return True


def report_trends(calibration: str, night: date, trends: Sequence[str]) -> bool:
    """Send an event if a night has given telescopes a flag in their trends; tell whether.

    Parameters
    ----------
    calibration : str
        Name of the observable.
    night : date
        The night.
    trends : sequence of str
        Of the record of the night: telescope and finding.
    """
    if not trends:
        return False
    from prefect.events import emit_event

    emit_event(
        TREND,
        resource={"prefect.resource.id": f"arraycal.calibration.{calibration}"},
        payload={
            "night": night.isoformat(),
            "telescopes": [text.partition(":")[0] for text in trends],
            "message": f"{calibration}, {night}: new in the trends: {'; '.join(trends)}",
        },
    )
    return True
