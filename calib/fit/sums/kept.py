"""The sums a calibration leaves behind, so that windows of nights are solved without its events.

What a solver reads of SUMMARY adds up over nights whatever weights and selection each night had:
any fixed weights give an unbiased solution. What only steers the next pass over the events
(scoring of the resolutions, turn-on) belongs to its own night and is not kept.

As bytes the sums are a SHA-256 and the compressed npz archive of plain arrays (no pickle) it is of,
with a table of contents in JSON. The same sums always give the same bytes, and come back bit by
bit.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from arraycal.calib.errors import CannotCompute
from arraycal.calib.fit.curve import Knots
from arraycal.calib.fit.model import Estimate, Model
from arraycal.calib.fit.slope import EnergySlope
from arraycal.calib.fit.sums.columns import ColumnSums
from arraycal.calib.fit.sums.summary import STEERING as OF_THE_MODEL
from arraycal.calib.fit.sums.summary import Moments, Summary, empty_summary
from arraycal.calib.subarray import Subarray

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import numpy.typing as npt

    Arrays = Mapping[str, npt.NDArray[Any]]

__all__ = ["FORMAT", "KEPT", "KEPT_OF_HALVES", "STEERING", "Sums", "pack", "unpack"]

#: Layout and meaning of the bytes; whatever changes there is another number.
FORMAT = 2
#: Fields of `Summary` that a result is made of.
KEPT = (
    "weight", "weighted", "curvature", "meat", "asymmetry", "log_ratio", "n_showers", "n_groups",
    "n_rows", "n_events", "n_candidates", "n_below_margin", "n_outliers", "residuals", "chi2",
    "columns",
)  # fmt: skip
#: Those that a solver reads of half of the showers.
KEPT_OF_HALVES = (
    "weight", "weighted", "curvature", "meat", "log_ratio/n", "n_showers", "n_groups", "n_rows",
    "n_events", "chi2", "columns",
)  # fmt: skip
#: Those that steer the next pass of their own night, and are zero when sums come back.
STEERING = (*OF_THE_MODEL, "deviations", "farthest")
#: Composite fields, and what they are made of.
COMPOSITE: dict[str, Any] = {"asymmetry": Moments, "log_ratio": Moments, "columns": ColumnSums}
#: What reading damaged bytes may raise.
DAMAGED = (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Sums:
    """Sums of the last pass of a calibration, with what gives them their meaning.

    Parameters
    ----------
    subarray : Subarray
        The telescopes, in the order of the nodes.
    summary : Summary
        Sums of all showers.
    halves : tuple of Summary
        Sums of the upper halves, as of ``arraycal.calib.fit.loop.Fit``; only what a solver reads.
    model : Model
        Weights and selection; residuals are about its ``now``.
    settled : bool
        Whether the iteration had ended.
    tables : dict of str to DataFrame
        What is told of the blocks: ``blocks`` and ``rejected`` as they went into the result, and
        ``block_notes`` if there are any.
    judged : tuple of str
        Reasons of the verdict that follow from sums and blocks, so that a window finds its own;
        not in the bytes.
    remarks : tuple of str
        All other reasons of the verdict: from the showers, which a window does not see.
    """

    subarray: Subarray
    summary: Summary
    halves: tuple[Summary, ...]
    model: Model
    settled: bool
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    judged: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def pack(sums: Sums) -> bytes:
    """Write sums as bytes.

    Parameters
    ----------
    sums : Sums
        What to write.

    Returns
    -------
    bytes
        For `unpack`, also of a later version of arraycal with the same `FORMAT`.
    """
    model = sums.model
    arrays = _flat("summary", sums.summary, KEPT)
    for number, half in enumerate(sums.halves):
        arrays |= _flat(f"half_{number}", half, KEPT_OF_HALVES)
    for name in ("now", "selector"):
        estimate = getattr(model, name)
        for part in ("log_throughput", "variance", "shape", "curve"):
            arrays[f"{name}/{part}"] = getattr(estimate, part)
    arrays |= {f"split_at/{name}": at for name, at in model.split_at.items()}
    arrays |= {"threshold": model.threshold, "ceiling": model.ceiling}
    arrays |= {"threshold_offset": model.threshold_offset}
    for name, table in sums.tables.items():
        arrays[f"table/{name}"] = _table_bytes(table)
    about = {
        "format": FORMAT,
        "subarray": asdict(sums.subarray),
        "n_halves": len(sums.halves),
        "margin": model.margin,
        "robust": model.robust,
        "knots_m": model.now.knots.positions_m,
        "slope": asdict(model.now.slope),
        "settled": bool(sums.settled),
        "remarks": sums.remarks,
    }
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, about=text, **_little_endian(arrays))
    return _digest(buffer.getvalue()) + buffer.getvalue()


def _digest(archive: bytes) -> bytes:
    return hashlib.sha256(archive).digest()


def unpack(content: bytes) -> Sums:
    """Read sums back.

    Parameters
    ----------
    content : bytes
        Of `pack`.

    Returns
    -------
    Sums
        As they were, bit by bit; fields that are not kept are zero.

    Raises
    ------
    CannotCompute
        If the bytes are damaged or of another format.
    """
    archive_bytes = content[hashlib.sha256().digest_size :]
    if content != _digest(archive_bytes) + archive_bytes:
        raise CannotCompute("the stored sums are damaged (their SHA-256 is another)")
    try:
        # numpy unpickles nothing unless told to; a pickled array is damaged to it.
        with np.load(io.BytesIO(archive_bytes)) as archive:
            arrays = {name: archive[name] for name in archive.files}
        about = json.loads(arrays["about"].tobytes())
        found = about["format"]
    except DAMAGED as error:
        raise CannotCompute(f"the stored sums are damaged ({error})") from None
    if found != FORMAT:
        raise CannotCompute(
            f"the stored sums have format {found}, this version of arraycal reads format {FORMAT}"
        )
    try:
        return _sums(about, arrays)
    except DAMAGED as error:
        raise CannotCompute(f"the stored sums are damaged ({error})") from None


def _sums(about: dict[str, Any], arrays: Arrays) -> Sums:
    described = about["subarray"]
    subarray = Subarray(
        name=described["name"],
        tel_ids=tuple(described["tel_ids"]),
        types=tuple(described["types"]),
        descriptions=tuple(described["descriptions"]),
        positions_m=tuple((x, y, z) for x, y, z in described["positions_m"]),
    )
    model = _model(about, arrays)
    empty = empty_summary(model)
    n_halves = range(about["n_halves"])
    halves = (_summary(f"half_{i}", empty, KEPT_OF_HALVES, arrays) for i in n_halves)
    tables = {
        name.removeprefix("table/"): pl.read_ipc(io.BytesIO(content.tobytes()))
        for name, content in arrays.items()
        if name.startswith("table/")
    }
    summary = _summary("summary", empty, KEPT, arrays)
    settled, remarks = about["settled"], tuple(about["remarks"])
    return Sums(subarray, summary, tuple(halves), model, settled, tables, remarks=remarks)


def _model(about: dict[str, Any], arrays: Arrays) -> Model:
    knots = Knots(tuple(tuple(positions) for positions in about["knots_m"]))
    slope = EnergySlope(tuple(about["slope"]["kinds"]), about["slope"]["log_pivot"])
    now, selector = (
        Estimate(
            log_throughput=arrays[f"{name}/log_throughput"],
            variance=arrays[f"{name}/variance"],
            shape=arrays[f"{name}/shape"],
            curve=arrays[f"{name}/curve"],
            knots=knots,
            slope=slope,
        )
        for name in ("now", "selector")
    )
    split_at: dict[Any, Any] = {
        name.removeprefix("split_at/"): at
        for name, at in arrays.items()
        if name.startswith("split_at/")
    }
    return Model(
        now=now,
        selector=selector,
        threshold=arrays["threshold"],
        threshold_offset=arrays["threshold_offset"],
        margin=about["margin"],
        robust=about["robust"],
        split_at=split_at,
        ceiling=arrays["ceiling"],
    )


def _leaves(summary: Summary) -> dict[str, npt.NDArray[Any]]:
    """Arrays of a summary by name, those of composite fields as ``field/part``."""
    found: dict[str, npt.NDArray[Any]] = {}
    for item in fields(summary):
        value = getattr(summary, item.name)
        if isinstance(value, Moments | ColumnSums):
            found |= {f"{item.name}/{part}": array for part, array in vars(value).items()}
        else:
            found[item.name] = np.asarray(value)
    return found


def _flat(prefix: str, summary: Summary, names: Collection[str]) -> dict[str, npt.NDArray[Any]]:
    """Arrays of a summary that are kept; the curvature only where it is not the weight."""
    found = {name: array for name, array in _leaves(summary).items() if _is_among(name, names)}
    if np.array_equal(summary.curvature, summary.weight):
        del found["curvature"]
    return {f"{prefix}/{name}": array for name, array in found.items()}


def _is_among(leaf: str, names: Collection[str]) -> bool:
    return leaf in names or leaf.partition("/")[0] in names


def _summary(prefix: str, empty: Summary, names: Collection[str], arrays: Arrays) -> Summary:
    leaves = _leaves(empty)
    for leaf in leaves:
        if _is_among(leaf, names) and leaf != "curvature":
            leaves[leaf] = arrays[f"{prefix}/{leaf}"]
    leaves["curvature"] = arrays.get(f"{prefix}/curvature", leaves["weight"])
    values: dict[str, Any] = {}
    for name, kind in COMPOSITE.items():
        values[name] = kind(*(leaves.pop(f"{name}/{part.name}") for part in fields(kind)))
    for name, array in leaves.items():
        values[name] = array if array.ndim else float(array)
    return replace(empty, **values)


def _table_bytes(table: pl.DataFrame) -> npt.NDArray[np.uint8]:
    buffer = io.BytesIO()
    table.write_ipc(buffer)
    return np.frombuffer(buffer.getvalue(), np.uint8)


def _little_endian(arrays: Arrays) -> dict[str, Any]:
    return {
        name: array if array.dtype == np.uint8 else np.asarray(array, "<f8")
        for name, array in arrays.items()
    }
