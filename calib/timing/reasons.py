"""What is said of every telescope: its flag, and why it has no offset or an unusual one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arraycal.calib.timing.tables import date
from arraycal.calib.timing.trust import strange
from arraycal.calib.wording import counted, few_common, readable_ns

if TYPE_CHECKING:
    from arraycal.calib.subarray import Subarray
    from arraycal.calib.timing.answer import Answer
    from arraycal.config.models import CalculateTimingCalibrationOptions

__all__ = ["no_reference", "reason_of", "strange_clocks"]


def reason_of(
    found: Answer, subarray: Subarray, tel: int, options: CalculateTimingCalibrationOptions
) -> tuple[str, str]:
    """Flag of a telescope, and the reason if it is not plainly ok.

    Parameters
    ----------
    found : Answer
        The solution.
    subarray : Subarray
        The telescopes.
    tel : int
        Index of the telescope.
    options : CalculateTimingCalibrationOptions
        What was asked for.

    Returns
    -------
    (str, str)
        Flag and reason.
    """
    node = int(found.nodes.newest[tel])
    if found.contradictions and found.detail.sums.n_all[:, tel].any():
        return "contradictory", "the stamps of the array contradict the model; see the verdict"
    if node in found.far:
        return "clock_off", _far(found, tel, node, options)
    if np.isfinite(found.offset_ns[node]):
        return _moves(found, tel, node)
    return _doubted(found, tel, node, options) or _lacking(found, subarray, tel, options)


def _far(found: Answer, tel: int, node: int, options: CalculateTimingCalibrationOptions) -> str:
    start = date(found.plan.start_s[found.nodes.first[node]])
    since = f" since {start}" if found.jumps.get(tel) else ""
    return (
        f"{found.far[node] / 1e9:+.6f} s away from the others{since}, more than "
        f"{options.max_clock_offset:g} ms (max_clock_offset)"
    )


def _moves(found: Answer, tel: int, node: int) -> tuple[str, str]:
    """What is said of a telescope with an offset: whether it jumps or drifts."""
    jumps, drift = found.jumps.get(tel, []), _drift(found, tel, node)
    if not jumps:
        return ("drift", drift) if drift else ("ok", "")
    last = f"{readable_ns(jumps[-1].size)} at {date(found.plan.start_s[jumps[-1].index])}"
    times = "" if len(jumps) == 1 else f" {len(jumps)} times, last"
    since = f"jumped{times}: {last}; the offset is that since then (table intervals)"
    return "step", f"{since}; {drift}" if drift else since


def _doubted(
    found: Answer, tel: int, node: int, options: CalculateTimingCalibrationOptions
) -> tuple[str, str] | None:
    """Why the offset that the fit has is not believed."""
    if tel in found.noisy:
        scatter = readable_ns(found.noisy[tel], sign=False)
        return "noisy", (
            f"its stamps scatter by {scatter} around the front, more than "
            f"{options.max_residual_rms:g} ns (max_residual_rms): they are not those of a clock"
        )
    if tel in found.restless:
        return "not_settled", "its offset still moved when the iteration ended"
    if node in found.vague:
        error = readable_ns(found.vague[node], sign=False)
        return "uncertain", f"its error is {error}, more than {options.max_error:g} ns (max_error)"
    return None


def _lacking(
    found: Answer, subarray: Subarray, tel: int, options: CalculateTimingCalibrationOptions
) -> tuple[str, str]:
    """What a telescope without an offset lacks."""
    node, n_all = int(found.nodes.newest[tel]), int(found.detail.sums.n_all[:, tel].sum())
    n_events = int(found.n_events[node])
    if n_all == 0:
        return "no_data", "no selected stamp"
    if n_events < options.min_events:
        since = " since its last jump" if found.jumps.get(tel) else ""
        lost = n_all - int(found.detail.sums.n_rows[:, tel].sum())
        clipped = f"; {lost} of its {n_all} stamps contradict their showers" if lost else ""
        return "few_events", (
            f"{counted(n_events, 'shower')}{since}, {options.min_events} needed "
            f"(min_events){clipped}"
        )
    if node in found.clipped:
        lost, stamps = found.clipped[node]
        return "contradictory", (
            f"{lost} of its {stamps} stamps contradict their showers, more than half: its offset "
            "would be that of a minority"
        )
    if found.component[node] < 0:
        best = int((found.common + found.common.T)[node].max())
        return "few_common", few_common(best, options.min_common_events)
    if not found.anchored:
        return "no_reference", no_reference(subarray, options)
    return "island", "not connected to the telescopes that set the zero"


def _drift(found: Answer, tel: int, node: int) -> str:
    if tel not in found.drifting:
        return ""
    slope, error = found.drift[tel]
    return (
        f"drifts by {slope:+.2f} +- {error:.2f} ns/h; the offset is that at "
        f"{date(found.reference_s[node])}"
    )


def no_reference(subarray: Subarray, options: CalculateTimingCalibrationOptions) -> str:
    """Why there is nothing that offsets can be relative to."""
    if options.reference_telescope is None:
        return "no telescope is left to set the zero"
    if options.reference_telescope not in subarray.index:
        return f"reference telescope {options.reference_telescope} is none of this array"
    return (
        f"the reference telescope {options.reference_telescope} has too little data, or shares too "
        "little with any other that has an offset"
    )


def strange_clocks(found: Answer, subarray: Subarray) -> list[str]:
    """Say which clocks with an offset are unlike those of their type, if they do not jump."""
    sentences = []
    known = np.isfinite(found.offset_ns[found.nodes.newest])
    for one in strange(found.detail.sums, found.model.sigma_ns, subarray.type_codes):
        # What a jump or a drift has done to its stamps is said there.
        if not known[one.telescope] or found.jumps.get(one.telescope):
            continue
        name = f"{subarray.types[one.telescope]}-{subarray.tel_ids[one.telescope]}"
        if one.what == "scatter":
            value, usual = (readable_ns(ns, sign=False) for ns in (one.value, one.usual))
            sentences.append(
                f"the stamps of {name} scatter by {value} around the front, those of its type by "
                f"{usual}: they are no sharp dates, and their mean may be no offset of the clock"
            )
        else:
            sentences.append(
                f"{one.value:.1%} of the stamps of {name} contradict their showers "
                f"({one.usual:.1%} of those of its type) and are left out: find out where they "
                "come from"
            )
    return sentences
