"""Answer to tables: intervals, jumps, history, profiles of the residuals, pairs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from arraycal.calib.fit.sums.summary import RESIDUAL_EDGES
from arraycal.calib.result.result import RESIDUALS
from arraycal.calib.timing.detail import DISTANCE_EDGES_M, SIZE_EDGES

if TYPE_CHECKING:
    import numpy.typing as npt

    from arraycal.calib.subarray import Subarray
    from arraycal.calib.timing.answer import Answer

    Floats = npt.NDArray[np.float64]

__all__ = [
    "date",
    "distance_table",
    "history_table",
    "intervals_table",
    "pairs_table",
    "pointing_table",
    "residuals_table",
    "steps_table",
    "walk_table",
]


def date(seconds: float) -> str:
    """Date in TAI."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S} TAI"


def _named(subarray: Subarray, tel: npt.NDArray[np.intp]) -> dict[str, Any]:
    return {
        "tel_type": np.asarray(subarray.types)[tel].tolist(),
        "tel_id": np.asarray(subarray.tel_ids, np.int64)[tel],
    }


def intervals_table(found: Answer, subarray: Subarray) -> pl.DataFrame:
    """Offset of every telescope between its jumps, with the span of time it holds for.

    That of a clock that drifts is a line, with this offset at `reference_s`.
    """
    nodes = found.nodes
    return pl.DataFrame(
        {
            **_named(subarray, nodes.telescope),
            "start_s": found.plan.start_s[nodes.first],
            "stop_s": found.plan.stop_s[nodes.last],
            "offset_ns": found.offset_ns,
            "error_ns": np.sqrt(np.diag(found.covariance)),
            "n_events": found.n_events.astype(np.int64),
            "reference_s": found.reference_s,
            "drift_ns_per_h": [
                found.drift[tel].slope if tel in found.drifting else 0.0
                for tel in nodes.telescope.tolist()
            ],
        }
    ).filter(pl.col("offset_ns").is_finite())


def steps_table(found: Answer, subarray: Subarray) -> pl.DataFrame:
    """Jumps with their dates and what they may be."""
    rows = [
        (
            subarray.types[tel],
            subarray.tel_ids[tel],
            float(found.plan.start_s[step.index]),
            float(found.plan.start_s[max(step.first - 1, 0)]),
            float(found.plan.stop_s[step.last]),
            step.size,
            step.error,
            step.p_value,
        )
        for tel, steps in sorted(found.jumps.items())
        for step in steps
    ]
    names = ("time_s", "earliest_s", "latest_s", "size_ns", "error_ns", "p_value")
    schema = {"tel_type": pl.String, "tel_id": pl.Int64, **dict.fromkeys(names, pl.Float64)}
    return pl.DataFrame(rows, schema=schema, orient="row")


def history_table(found: Answer, subarray: Subarray) -> pl.DataFrame:
    """Offsets by chunk, shifted to the gauge of the result."""
    n_chunks, n = found.history.offset_ns.shape
    chunk, tel = (grid.ravel() for grid in np.indices((n_chunks, n)))
    node = found.nodes.of
    difference = found.history.offset_ns - found.offset_ns[node]
    finite = difference[np.isfinite(difference)]
    offset = found.history.offset_ns - (np.median(finite) if len(finite) else 0.0)
    return pl.DataFrame(
        {
            "chunk": chunk,
            "obs_id": found.plan.obs_id[chunk],
            "start_s": found.plan.start_s[chunk],
            "stop_s": found.plan.stop_s[chunk],
            **_named(subarray, tel),
            "offset_ns": offset.ravel(),
            "error_ns": found.history.error_ns.ravel(),
            "n_events": found.detail.sums.n_rows.ravel().astype(np.int64),
        }
    ).filter(pl.col("offset_ns").is_finite())


def residuals_table(found: Answer, subarray: Subarray) -> pl.DataFrame:
    """Histogram of the residuals in units of their expected size, by type."""
    types = sorted(set(subarray.types))
    low, high = RESIDUAL_EDGES[:-1], RESIDUAL_EDGES[1:]
    return pl.concat(
        pl.DataFrame(
            {"tel_type": [name] * len(low), "low": low, "high": high, "rows": rows.astype(int)},
            schema=RESIDUALS,
        )
        for name, rows in zip(types, found.detail.histogram, strict=True)
    )


def distance_table(found: Answer, subarray: Subarray) -> pl.DataFrame:
    """Residuals by distance from the shower axis."""
    profile = found.detail.distance
    mean, rms = _mean_and_rms(profile.n, profile.total, profile.square)
    kind, place = np.nonzero(profile.n)
    return pl.DataFrame(
        {
            "tel_type": np.asarray(sorted(set(subarray.types)))[kind].tolist(),
            "low_m": DISTANCE_EDGES_M[place],
            "high_m": DISTANCE_EDGES_M[place + 1],
            "rows": profile.n[kind, place].astype(np.int64),
            "mean_ns": mean[kind, place],
            "rms_ns": rms[kind, place],
        }
    )


def walk_table(found: Answer, subarray: Subarray) -> pl.DataFrame:
    """Delays by image size, and the fitted walk."""
    profile, bright = found.detail.walk, found.detail.brightness
    mean, rms = _mean_and_rms(profile.n, profile.total, profile.square)
    brightness = _mean_and_rms(bright.n, bright.total, bright.square)[0]
    kind, place = np.nonzero(profile.n)
    return pl.DataFrame(
        {
            "tel_type": np.asarray(sorted(set(subarray.types)))[kind].tolist(),
            "low": SIZE_EDGES[place],
            "high": SIZE_EDGES[place + 1],
            "rows": profile.n[kind, place].astype(np.int64),
            "mean_ns": mean[kind, place],
            "rms_ns": rms[kind, place],
            "fitted_ns": found.model.walk_ns[kind] * brightness[kind, place],
        }
    )


def _mean_and_rms(n: Floats, total: Floats, square: Floats) -> tuple[Floats, Floats]:
    mean = total / np.maximum(n, 1.0)
    return mean, np.sqrt(np.maximum(square / np.maximum(n, 1.0) - mean**2, 0.0))


def pointing_table(found: Answer) -> pl.DataFrame:
    """Pointings with their showers."""
    rows = [
        (
            float(np.degrees(np.arcsin(np.clip(one.towards[2], -1, 1)))),
            float(np.degrees(np.arctan2(-one.towards[1], one.towards[0])) % 360),
            int(one.n_showers),
        )
        for one in found.pointings
    ]
    schema = {"alt_deg": pl.Float64, "az_deg": pl.Float64, "n_showers": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def pairs_table(found: Answer, subarray: Subarray) -> pl.DataFrame:
    """Residual differences of every two telescopes with common showers."""
    count = found.detail.common.sum(axis=0)
    first, second = np.nonzero(np.triu(count, 1))
    swap = np.asarray(subarray.tel_ids)[first] > np.asarray(subarray.tel_ids)[second]
    first, second = np.where(swap, second, first), np.where(swap, first, second)
    n = count[first, second]
    mean = found.detail.pair_sum[first, second] / n
    variance = found.detail.pair_square[first, second] / n - mean**2
    spread = np.sqrt(np.where(n > 1, np.maximum(variance, 0.0) * n / np.maximum(n - 1, 1), np.nan))
    error = spread / np.sqrt(n)
    types = np.asarray(subarray.types)
    return pl.DataFrame(
        {
            "tel_type": [
                "-".join(dict.fromkeys(sorted(pair)))
                for pair in zip(types[first], types[second], strict=True)
            ],
            "tel_id_1": np.asarray(subarray.tel_ids, np.int64)[first],
            "tel_id_2": np.asarray(subarray.tel_ids, np.int64)[second],
            "n_events": n.astype(np.int64),
            "mean_residual_ns": mean,
            "mean_residual_error_ns": error,
            "std_residual_ns": spread,
            "pull": np.divide(mean, error, out=np.full(len(n), np.nan), where=error > 0),
            "flag": np.where(n > 1, "ok", "single_event").tolist(),
        },
        schema_overrides={"tel_type": pl.String, "flag": pl.String},
    ).sort("tel_id_1", "tel_id_2")
