"""Coefficients as a small table, for simulations of the array and for other software.

The same table twice: ECSV, which people and astropy read, and HDF5, as in corrected files.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from arraycal.calib import hdf5
from arraycal.calib.apply.tables import SERVICE_APPLY, facts_of, table_columns
from arraycal.calib.disk.files import sync
from arraycal.calib.disk.publication import put_in_place
from arraycal.calib.disk.scratch import scratch_folder
from arraycal.calib.monitoring.correction import corrections
from arraycal.calib.monitoring.file_metadata import Product, key_value, reference_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from arraycal.calib.monitoring.read_coefficients import Coefficients

__all__ = ["LOOKUP_FILES", "write_lookup"]

LOOKUP_ECSV, LOOKUP_HDF5 = "lookup.ecsv", "lookup.h5"
LOOKUP_FILES = (LOOKUP_ECSV, LOOKUP_HDF5)
LAYOUT_VERSION = "1"


def write_lookup(
    coefficients: Coefficients, folder: Path, provenance: Mapping[str, Any]
) -> tuple[Path, ...]:
    """Write the corrections of all telescopes the coefficients name.

    Parameters
    ----------
    coefficients : Coefficients
        What was read.
    folder : Path
        Created if absent; files of the names in `LOOKUP_FILES` are replaced.
    provenance : mapping
        Written into both.

    Returns
    -------
    tuple of Path
        The files. Columns are those of `arraycal.calib.monitoring.correction.corrections`.

    Raises
    ------
    OSError
        If the folder cannot be written; nothing half-written is left.
    """
    made_by = {**provenance, "inputs": {str(coefficients.path): coefficients.digest}}
    contents = {
        LOOKUP_ECSV: _ecsv(coefficients, made_by),
        LOOKUP_HDF5: _hdf5(coefficients, made_by),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with scratch_folder(folder) as scratch:
        for name, content in contents.items():
            (scratch / name).write_bytes(content)
            sync(scratch / name)
        put_in_place(scratch, folder, tuple(contents))
    return tuple(folder / name for name in contents)


def _ecsv(coefficients: Coefficients, provenance: Mapping[str, Any]) -> bytes:
    from astropy.table import Table

    columns = table_columns(corrections(coefficients))
    table = Table({name: column.data for name, column in columns.items()})
    for name, column in columns.items():
        table[name].unit = column.unit or None
        table[name].description = column.description or None
    table.meta = {**facts_of(coefficients), "provenance": dict(provenance)}
    text = io.StringIO()
    table.write(text, format="ascii.ecsv")
    return text.getvalue().encode()


def _hdf5(coefficients: Coefficients, provenance: Mapping[str, Any]) -> bytes:
    product = Product(
        description=f"Corrections by telescope: {coefficients.quantity}",
        levels="DL2",
        model="arraycal lookup",
        model_version=LAYOUT_VERSION,
        activity="apply",
    )
    buffer = io.BytesIO()
    with hdf5.create_file(buffer) as file:
        metadata = reference_metadata(product, coefficients.obs_ids, provenance)
        hdf5.set_attributes(file, metadata)
        for name, columns in (
            ("factors", table_columns(corrections(coefficients))),
            ("coefficients", key_value(facts_of(coefficients))),
            ("provenance", key_value(provenance)),
        ):
            hdf5.write_table(file, f"{SERVICE_APPLY}/{name}", columns)
    return buffer.getvalue()
