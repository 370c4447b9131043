"""Telescopes that a configuration names: they must be of the array."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arraycal.calib.errors import WrongUsage

if TYPE_CHECKING:
    from arraycal.calib.subarray import Subarray
    from arraycal.config.models import Configuration

__all__ = ["check_clock_reference", "check_references"]


def check_references(subarray: Subarray, configuration: Configuration) -> None:
    """Refuse reference telescopes and constraints on telescopes that the array does not have.

    A telescope of the array that has no data is another matter: what depends on it gets no number.
    Types that the array does not have are no mistake, one configuration serves several arrays.

    Parameters
    ----------
    subarray : Subarray
        The telescopes.
    configuration : Configuration
        All options.

    Raises
    ------
    WrongUsage
        If a reference telescope is none of the array, or of another type, or a constraint is on
        a telescope that is none of the array.
    """
    options = configuration.RelativeThroughputFitter
    types = dict(zip(subarray.tel_ids, subarray.types, strict=True))
    used = options.reference_telescopes if options.effective_gauge == "reference" else {}
    for tel_type, tel_id in used.items():
        members = [i for i, its in types.items() if its == tel_type]
        if members and tel_id not in members:
            its = f"is of type {types[tel_id]}" if tel_id in types else "is none of this array"
            raise WrongUsage(
                f"RelativeThroughputFitter.reference_telescopes: telescope {tel_id}, the reference "
                f"of {tel_type}, {its}. The {tel_type} are {_listed(members)}; choose one of "
                "them, or leave the type out."
            )
    unknown = [c.tel_id for c in options.constraints if c.tel_id not in types]
    if unknown:
        raise WrongUsage(
            f"RelativeThroughputFitter.constraints: telescopes {unknown} are none of this array, "
            f"which has {_listed(list(types))}."
        )


def check_clock_reference(subarray: Subarray, configuration: Configuration) -> None:
    """Refuse a reference of the clocks that the array does not have.

    Raises
    ------
    WrongUsage
        If it is none of the array.
    """
    tel_id = configuration.CalculateTimingCalibration.reference_telescope
    if tel_id is not None and tel_id not in subarray.index:
        raise WrongUsage(
            f"CalculateTimingCalibration.reference_telescope: telescope {tel_id} is none of this "
            f"array, which has {_listed(sorted(subarray.tel_ids))}. Choose one of them, or leave "
            "it out for the mean of all."
        )


def _listed(tel_ids: list[int]) -> str:
    more = f" and {len(tel_ids) - MAX_IDS} more" if len(tel_ids) > MAX_IDS else ""
    return ", ".join(map(str, tel_ids[:MAX_IDS])) + more


#: Ids in a message before it says how many more there are.
MAX_IDS = 20
