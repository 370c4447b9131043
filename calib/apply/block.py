"""Coefficients applied to a block: corrected values beside the original ones, in a new file.

Takes a block and `Coefficients`, gives one file with, for every row of the block, its keys, the
original value and the corrected one. The block is only read. Rows of telescopes without a
coefficient are kept, with a corrected value that is NaN (for times: none), and counted.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from arraycal.calib import dl2, hdf5
from arraycal.calib.apply.tables import (
    SERVICE_APPLY,
    Tally,
    service_tables,
    time_parts,
    value_parts,
)
from arraycal.calib.blocks.cache import PairCache
from arraycal.calib.disk.files import sync
from arraycal.calib.disk.scratch import scratch_folder
from arraycal.calib.errors import ArraycalError, CannotCompute
from arraycal.calib.monitoring.correction import for_array
from arraycal.calib.monitoring.file_metadata import Product, reference_metadata

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import polars as pl

    from arraycal.calib.monitoring.read_coefficients import Coefficients

__all__ = ["Applied", "apply_to_block", "column_to_correct"]

#: Version of the layout of the file.
LAYOUT_VERSION = "1"
LEVELS = {"energy": "DL2", "size": "DL1_PARAMETERS", "time": "DL1_TRIGGER"}


@dataclass(frozen=True)
class Applied:
    """Outcome for one block.

    Parameters
    ----------
    path : Path
        The block.
    status : {"ok", "failed", "empty"}
        ``failed``: nothing could be made of it; ``empty``: sound, without a row. Neither has an
        output.
    reason : str
        Why not ``ok``.
    output : Path or None
        The new file.
    column : str
        What was corrected.
    obs_ids : tuple of int
        Observations in the block.
    counts : DataFrame
        Schema ``arraycal.calib.apply.tables.COUNTS``: a row per telescope with rows.
    repeated : int
        Rows that were in the block twice and are in the output once.
    remarks : tuple of str
        What is no failure but should be known.
    """

    path: Path
    status: Literal["ok", "failed", "empty"]
    reason: str = ""
    output: Path | None = None
    column: str = ""
    obs_ids: tuple[int, ...] = ()
    counts: pl.DataFrame | None = None
    repeated: int = 0
    remarks: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether no value was left uncorrected."""
        return self.counts is not None and not self.counts["uncorrected"].sum()


def apply_to_block(
    path: Path,
    coefficients: Coefficients,
    output: Path,
    provenance: Mapping[str, Any],
    cache_root: Path,
) -> Applied:
    """Write the corrected values of a block.

    Parameters
    ----------
    path : Path
        The block.
    coefficients : Coefficients
        What to do to it.
    output : Path
        The new file; one that exists is replaced, by a rename once the new one is complete.
    provenance : mapping
        Written into it, with the digests of the block and of the coefficients.
    cache_root : Path
        Where digests of files are remembered.

    Returns
    -------
    Applied
        A block that cannot be used is a result with its reason, not an exception.

    Raises
    ------
    OSError
        If the output cannot be written; nothing half-written is left.
    """
    outcome = Applied(path, "failed")
    try:
        block = _open(path)
        before = _state(path)
        remarks = _obs_remarks(coefficients, block)
        outcome = replace(outcome, obs_ids=block.observations, remarks=remarks)
        inputs = {str(path): PairCache(cache_root).digest(path)}
        inputs |= {str(coefficients.path): coefficients.digest}
        made_by = {**provenance, "inputs": inputs}
        with _explained(output), _scratch(output) as temporary:
            written = _write(block, coefficients, temporary, made_by, outcome)
            _require_unchanged(path, before)
            if written.status == "ok":
                temporary.replace(output)
                sync(output.parent)
                written = replace(written, output=output)
    except ArraycalError as error:
        return replace(outcome, reason=_reason(error, path))
    return written


@contextmanager
def _scratch(output: Path) -> Iterator[Path]:
    """Place for a file that is renamed to `output` when it is complete."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(output.parent) as folder:
        yield folder / output.name


def _open(path: Path) -> dl2.Block:
    with hdf5.open_file(path) as file:
        if hdf5.has_table(file, f"{SERVICE_APPLY}/factors", path):
            raise CannotCompute("the file holds corrected values already. Give the original block.")
    return dl2.open_block(path)


def _write(
    block: dl2.Block,
    coefficients: Coefficients,
    path: Path,
    provenance: Mapping[str, Any],
    outcome: Applied,
) -> Applied:
    """Write the file; rows that turn out to be out of order are read again, all at once."""
    for stream in (True, False):
        try:
            return _write_once(block, coefficients, path, provenance, outcome, stream=stream)
        except dl2.UnsortedRows:
            path.unlink()
            if not stream:
                raise
    raise AssertionError


def _write_once(
    block: dl2.Block,
    coefficients: Coefficients,
    path: Path,
    provenance: Mapping[str, Any],
    outcome: Applied,
    *,
    stream: bool,
) -> Applied:
    table, remarks = for_array(coefficients, block.subarray)
    tally = Tally()
    if coefficients.quantity == "time":
        stored, parts = "time", time_parts(block, table, tally)
    else:
        column = column_to_correct(block, coefficients)
        stored = block.columns[column].stored
        parts = value_parts(block, column, table, tally, stream=stream)
    product = Product(
        description=f"Corrected {stored}",
        levels=LEVELS[coefficients.quantity],
        model="arraycal corrected values",
        model_version=LAYOUT_VERSION,
        activity="apply",
    )
    with hdf5.create_large_file(path) as large:
        metadata = reference_metadata(product, block.observations, provenance)
        hdf5.set_attributes(large.file, metadata)
        obs_ids = {"obs_id": np.asarray(block.observations, np.uint64)}
        for name, columns in parts:
            large.append(name, columns, obs_ids)
        counts = tally.table(table)
        for name, columns in service_tables(coefficients, table, counts, provenance):
            large.append(name, columns, obs_ids)
    if counts.is_empty():
        return replace(outcome, status="empty", reason=f"no telescope has a row with {stored}")
    return replace(
        outcome,
        status="ok",
        column=stored,
        counts=counts,
        repeated=tally.repeated,
        remarks=outcome.remarks + remarks,
    )


def column_to_correct(block: dl2.Block, coefficients: Coefficients) -> str:
    """Find the column of a block that coefficients belong to.

    Raises
    ------
    CannotCompute
        If the block has none.
    """
    for name in coefficients.columns:
        source = block.columns.get(name)
        if (
            source is not None
            and source.scope == "telescope"
            and source.kind not in {"bool", "int"}
        ):
            return name
    near = [
        name
        for name, source in block.columns.items()
        if source.scope == "telescope" and name.endswith(("_tel_energy", "hillas_intensity"))
    ]
    raise CannotCompute(
        f"it has no column {' or '.join(coefficients.columns)} to correct; "
        f"per telescope it has: {', '.join(near) or 'no energy and no image size'}. "
        "Choose one with --column."
    )


def _obs_remarks(coefficients: Coefficients, block: dl2.Block) -> tuple[str, ...]:
    others = set(block.observations) - set(coefficients.obs_ids)
    if not others:
        return ()
    source = _ids(coefficients.obs_ids) or "observations the file does not name"
    remark = (
        f"the coefficients are from {source}, not from {_ids(tuple(sorted(others)))}: normal "
        "practice as long as nothing changed at the telescopes in between"
    )
    return (remark,)


def _ids(obs_ids: tuple[int, ...], most: int = 5) -> str:
    if not obs_ids:
        return ""
    more = f" and {len(obs_ids) - most} more" if len(obs_ids) > most else ""
    return f"obs_id {', '.join(map(str, obs_ids[:most]))}{more}"


def _state(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _require_unchanged(path: Path, before: tuple[int, int]) -> None:
    if _state(path) != before:
        raise CannotCompute(
            "the file changed while it was read. Wait until it is complete and run again."
        )


def _reason(error: ArraycalError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")


@contextmanager
def _explained(output: Path) -> Iterator[None]:
    """Say in an error what could not be written, and what now; its number stays."""
    try:
        yield
    except OSError as error:
        number = error.errno or errno.EIO
        reason = os.strerror(number) if error.errno else str(error)
        raise OSError(
            number,
            f"{output} cannot be written: {reason}. Nothing half-written is left, and files that "
            "were named before are complete. Make room or make the folder writable, or choose "
            "another --output.",
        ) from error
