"""What every HDF5 file of ours says of itself: who made it, from what, when.

The root attributes are the reference metadata that every CTAO data product carries; text and
facts go into tables, in the way ctapipe reads them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from arraycal.calib.hdf5.writing import Column

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Product", "key_value", "reference_metadata", "text_column"]

#: An HDF5 attribute holds 64 KiB; the complete list is in the attribute obs_id of the tables.
MAX_LISTED = 1000


@dataclass(frozen=True)
class Product:
    """What kind of file it is.

    Parameters
    ----------
    description : str
        One line for people.
    levels : str
        Data levels, separated by commas.
    model, model_version : str
        Name and version of the layout of its tables.
    activity : str
        What made it.
    """

    description: str
    levels: str
    model: str
    model_version: str
    activity: str


def reference_metadata(
    product: Product, obs_ids: Sequence[int], provenance: Mapping[str, Any]
) -> dict[str, str]:
    """Root attributes of a file.

    Parameters
    ----------
    product : Product
        What kind of file it is.
    obs_ids : sequence of int
        Observations it belongs to.
    provenance : mapping
        Of `arraycal.calib.publish.writing.provenance`: its start time and versions are used.
    """
    stop = datetime.now(UTC)
    start = _time(provenance.get("time_utc")) or stop
    versions = provenance.get("versions", {})
    identity = str(uuid4())
    fields = {
        "CONTACT NAME": "unknown",
        "CONTACT EMAIL": "unknown",
        "CONTACT ORGANIZATION": "unknown",
        "PRODUCT DESCRIPTION": product.description,
        "PRODUCT CREATION TIME": _iso(stop),
        "PRODUCT ID": identity,
        "PRODUCT DATA CATEGORY": "Other",
        "PRODUCT DATA LEVELS": product.levels,
        "PRODUCT DATA ASSOCIATION": "Subarray",
        "PRODUCT DATA MODEL NAME": product.model,
        "PRODUCT DATA MODEL VERSION": product.model_version,
        "PRODUCT DATA MODEL URL": "",
        "PRODUCT FORMAT": "hdf5",
        "PROCESS TYPE": "Other",
        "PROCESS SUBTYPE": "",
        "PROCESS ID": ",".join(map(str, obs_ids[:MAX_LISTED])),
        "ACTIVITY NAME": product.activity,
        "ACTIVITY TYPE": "software",
        "ACTIVITY ID": identity,
        "ACTIVITY START TIME": _iso(start),
        "ACTIVITY STOP TIME": _iso(stop),
        "ACTIVITY SOFTWARE NAME": "arraycal",
        "ACTIVITY SOFTWARE VERSION": str(versions.get("arraycal", "unknown")),
        "INSTRUMENT SITE": "Other",
        "INSTRUMENT CLASS": "Subarray",
        **{f"INSTRUMENT {key}": "unspecified" for key in ("TYPE", "SUBTYPE", "VERSION", "ID")},
    }
    return {"CTA REFERENCE VERSION": "1"} | {f"CTA {key}": text for key, text in fields.items()}


def text_column(values: Iterable[str], description: str = "") -> Column:
    """Column of text of any length."""
    # A file name may hold bytes that are no text; they must not cost the result.
    clean = [value.encode("utf-8", "backslashreplace").decode() for value in values]
    return Column(np.asarray(clean, np.str_), description=description)


def key_value(facts: Mapping[str, Any]) -> dict[str, Column]:
    """Two columns of text; what is no text is written as JSON."""
    values = [v if isinstance(v, str) else json.dumps(v, default=str) for v in facts.values()]
    return {"key": text_column(facts), "value": text_column(values)}


def _iso(time: datetime) -> str:
    """Time as ctapipe writes it: UTC, no zone."""
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "milliseconds")


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
