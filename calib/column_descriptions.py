"""What the columns of published tables say, and their units: one text for all files.

A name means the same in every table, unless it stands under the table, or under `CLOCKS` for
tables whose coefficients are clock offsets.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["HISTORY", "Text", "describe"]


class Text(NamedTuple):
    """Description of a column, and its unit in VOUnit syntax (empty for none)."""

    description: str
    unit: str = ""


#: Units of columns from the end of their names.
ENDINGS = {"_ns_per_h": "ns.h**-1", "_ns": "ns", "_s": "s", "_m": "m", "_deg": "deg"}

COLUMNS = {
    "tel_type": Text("Type of the telescope, or of both of a pair"),
    "tel_ref": Text("Type that it is compared with"),
    "tel_id": Text("Telescope; -1 for none"),
    "tel_id_1": Text("First telescope of the pair, the one with the smaller number"),
    "tel_id_2": Text("Second telescope of the pair"),
    "obs_id": Text("Observation"),
    "obs_ids": Text("Observations, in the order of the file"),
    "path": Text("File of the block"),
    "night": Text("Date of the noon before the observations"),
    "calibration": Text("Calibration that the row is of"),
    "status": Text("What became of it"),
    "reason": Text("Why it is so; empty where all is well"),
    "flag": Text("ok, or what is wrong in a word"),
    "value": Text("Throughput coefficient: corrected = measured / value"),
    "error": Text("Statistical error"),
    "systematic": Text("Systematic error of the coefficient"),
    "factor": Text("corrected = measured * factor"),
    "factor_error": Text("Error of the factor, common to all events of the telescope"),
    "pos_x": Text("Position in the ground frame, to the north", "m"),
    "pos_y": Text("Position in the ground frame, to the west", "m"),
    "pos_z": Text("Position in the ground frame, upwards", "m"),
    "n_events": Text("Showers in use"),
    "n_showers": Text("Showers in use"),
    "n_candidates": Text("Showers before the threshold margin"),
    "n_partners": Text("Telescopes with common showers"),
    "n_telescopes": Text("Telescopes that are compared"),
    "n_pairs": Text("Rows of pairs of telescopes"),
    "n_blocks": Text("Blocks in use"),
    "n_nights": Text("Nights in use"),
    "n_bins": Text("Bins in use"),
    "component": Text("Group of connected telescopes, -1 for none"),
    "deviation": Text("ln(value) minus the median of the other telescopes of the group"),
    "z": Text("The deviation or contrast over its expected size"),
    "rows": Text("Number of rows"),
    "example": Text("One of the rows that were left out"),
    "level": Text("What the rows are: of telescopes, of pairs, ..."),
    "rule": Text("Rule that refused them first"),
    "data_model": Text("Version of the data model of the file"),
    "digest": Text("Digest of the content of the file"),
    "cached": Text("Whether the rows were taken from the cache"),
    "mean_asymmetry": Text("Mean of (v1 - v2) / (v1 + v2)"),
    "mean_asymmetry_error": Text("Standard error of the mean asymmetry"),
    "std_asymmetry": Text("Standard deviation of the asymmetry"),
    "mean_log_ratio": Text("Mean of ln(v1 / v2), less fitted distance curves"),
    "mean_log_ratio_error": Text("Standard error of the mean log ratio"),
    "fitted_log_ratio": Text("ln(c1 / c2) of the fitted coefficients"),
    "pull": Text("(mean - fitted) / error of the mean"),
    "variance": Text("Variance of the fitted log ratio"),
    "low": Text("Lower edge of the bin"),
    "high": Text("Upper edge of the bin"),
    "mean": Text("Mean of the covariate in the bin"),
    "covariate": Text("What the bins are of"),
    "unit": Text("Unit; empty for ratios and plain numbers"),
    "residual": Text("Mean of measured minus fitted ln(v1 / v2)"),
    "margin": Text("Distance from the threshold, in sigma of the telescope event"),
    "in_use": Text("Whether the result has this margin"),
    "difference": Text("Difference of ln(value) from what it is compared with"),
    "difference_error": Text("Statistical error of the difference"),
    "n_showers_changed": Text("Showers that one of the two margins has alone"),
    "rms": Text("Root mean square of the differences beyond their noise"),
    "chi2": Text("Chi-square of the differences"),
    "ndf": Text("Degrees of freedom of the chi-square"),
    "p_value": Text("Chance of so large a value where there is nothing"),
    "p_largest": Text("Chance that any of the differences would be as large"),
    "birge": Text("Root of chi2 / ndf"),
    "kind": Text("What the parts are: blocks, stretches of time, halves of blocks, nights"),
    "part": Text("The part, or the first and last of a run of parts"),
    "n_parts": Text("Parts that are compared"),
    "deviating": Text("Type of what deviates most"),
    "resolution": Text("Fitted standard deviation of ln(value)"),
    "usual": Text("Median of the resolutions of the type"),
    "width": Text("Width of the residuals over that of the fitted resolution"),
    "width_error": Text("Statistical error of the width"),
    "n_outlying": Text("Values more than 4 widths off"),
    "chance": Text("Chance of so many outlying values where there is nothing"),
    "scatter": Text("Scatter beyond the stated errors, of ln(value)"),
    "changed": Text("Whether it is significant and of a size that matters"),
    "plateau": Text("Whether nothing changes at this margin and larger ones"),
    "counts": Text("Pairs of values by bin, in equal bins from low to high"),
    "n_below": Text("Below the lowest bin"),
    "n_above": Text("Above the highest bin"),
    "fitted": Text("ln(c1 / c2) of the fitted coefficients"),
    "mean_error": Text("Standard error of the mean"),
    "impact_m": Text("Impact distance", "m"),
    "log_value": Text("Fitted dependence of ln(value) on the distance, at a knot"),
    "topic": Text("What the note is about"),
    "note": Text("What a reader must know of the block"),
    "images": Text("Images of the telescope"),
    "saturated": Text("Images at the level"),
    "ceiling": Text("Size above which images are not used", "p.e."),
    "share": Text("Share of the images above the ceiling that saturate"),
    "use": Text("Whether the ceiling holds, or the telescope is left out"),
    "other": Text("Coefficient of the other result"),
    "contrast": Text("ln of the ratio of the two that are compared"),
    "contrast_error": Text("Statistical error of the contrast"),
    "contrast_systematic": Text("Systematic error of the contrast"),
    "expected": Text("The same contrast in a simulation, 0 without one"),
    "expected_error": Text("Statistical error of the expected contrast"),
    "gauge": Text("How the scale of the type was set"),
    "scaling_factor": Text("Throughput of the type over that of the reference type"),
    "scaling_factor_uncertainty": Text("Standard error of the scaling factor"),
    "pivot": Text("Energy at which the factors hold", "TeV"),
    "slope": Text("Change along the covariate; of energies d ln E / d ln E"),
    "slope_error": Text("Statistical error of the slope"),
    "significance": Text("Slope over its error"),
    "span": Text("Rise of the line from the first bin to the last"),
    "chi2_constant": Text("Chi-square of a constant"),
    "ndf_constant": Text("Degrees of freedom of the constant"),
    "chi2_line": Text("Chi-square of the line"),
    "ndf_line": Text("Degrees of freedom of the line"),
    "p_line": Text("Chance of so large a chi-square of the line"),
    "ratio": Text("Mean ratio of energies of the type to the reference type"),
    "ratio_error": Text("Standard error of the mean ratio"),
    "participation_factor": Text("Mean coefficient of the reference telescopes"),
    "participation_factor_error": Text("Error of the participation factor"),
    "n_ratios": Text("Ratios in the mean"),
    "verdict": Text("Verdict in words"),
    "log_ratio": Text("ln(value) of the night minus that of all others together"),
    "probability": Text("Chance of so large a chi-square"),
    "largest_pull": Text("Largest difference of a night over its error"),
    "corrected": Text("Rows with a corrected value"),
    "no_value": Text("Rows without a value to correct"),
    "uncorrected": Text("Rows with a value, of a telescope without coefficient"),
    "start_s": Text("Start, TAI since 1970", "s"),
    "stop_s": Text("End, TAI since 1970", "s"),
}
#: The same names in tables of clocks, and what such tables alone have.
CLOCKS = {
    "value": Text("Clock offset, positive if stamps are late: corrected = stamp - value", "ns"),
    "offset": Text("Clock offset, positive if stamps are late: corrected = stamp - offset", "ns"),
    "offset_ns": Text("Clock offset, positive if stamps are late: corrected = stamp - offset"),
    "error": Text("Statistical error of the clock offset", "ns"),
    "error_ns": Text("Statistical error"),
    "systematic": Text("Systematic error of the clock offset", "ns"),
    "n_candidates": Text("Showers before the selection of stamps"),
    "deviation": Text("Not used for clocks"),
    "residual_rms": Text("Scatter of the stamps around the fitted front", "ns"),
    "drift": Text("Change of the offset with time", "ns.h**-1"),
    "drift_error": Text("Statistical error of the drift", "ns.h**-1"),
    "drift_ns_per_h": Text("Change of the offset with time; 0 if it does not drift"),
    "reference_s": Text("Date (TAI) for which the offset of a clock that drifts holds"),
    "offset_applied": Text("Offset in whole quarter nanoseconds", "ns"),
    "reference": Text("Date at which a clock that drifts has the offset, TAI since 1970", "s"),
    "chunk": Text("Number of the chunk of time"),
    "time_s": Text("Most probable date of the jump, TAI since 1970"),
    "earliest_s": Text("Earliest date of the jump, TAI since 1970"),
    "latest_s": Text("Latest date of the jump, TAI since 1970"),
    "size_ns": Text("Size of the jump"),
    "low_m": Text("Lower edge of the bin in distance from the shower axis"),
    "high_m": Text("Upper edge of the bin in distance from the shower axis"),
    "mean_ns": Text("Mean of stamp minus fitted front"),
    "rms_ns": Text("Root mean square of stamp minus fitted front"),
    "fitted_ns": Text("Delay of faint images as fitted"),
    "alt_deg": Text("Altitude of the pointing"),
    "az_deg": Text("Azimuth of the pointing"),
    "mean_residual_ns": Text("Mean difference of the residuals of the two telescopes"),
    "mean_residual_error_ns": Text("Standard error of the mean difference"),
    "std_residual_ns": Text("Standard deviation of the difference"),
    "relative": Text("Relative to the mean of the steady telescopes of the type", "ns"),
    "relative_error": Text("Its error, with the scatter from night to night", "ns"),
    "rate": Text("Change per day, with the steps fitted along", "ns / d"),
    "rate_error": Text("Statistical error of the rate", "ns / d"),
    "step": Text("Latest step", "ns"),
    "step_error": Text("Statistical error of the step", "ns"),
    "scatter": Text("Scatter from night to night beyond the stated errors", "ns"),
}
HISTORY = "export"
#: What a name means in one table alone; the tables that the history exports are one.
TABLES = {
    "residual_tests": {
        "share": Text("Share of the values that are outlying"),
        "expected": Text("The same share of the other telescopes of the type"),
    },
    "constancy_deviations": {"difference": Text("ln(value) of the part minus that of all others")},
    "residuals": {
        "low": Text("Lower edge of the bin: measured minus fitted over its expected size"),
        "high": Text("Upper edge of the bin: measured minus fitted over its expected size"),
    },
    "saturation": {"level": Text("Brightest pixel of saturated images", "p.e.")},
    "pair_histograms": {
        "mean": Text("Mean of ln(v1 / v2), less fitted distance curves"),
        "low": Text("Lower edge of the lowest bin"),
        "high": Text("Upper edge of the highest bin"),
    },
    "walk": {
        "low": Text("Lower edge of the bin in image size", "p.e."),
        "high": Text("Upper edge of the bin in image size", "p.e."),
    },
    "apply": {
        "error": Text("Its error, common to all events of the telescope"),
        "drift": Text("Of the offset in time; the offset is that at the reference", "ns.h**-1"),
        "valid_from": Text("Of stamps from this date, TAI since 1970; NaN: no limit", "s"),
        "valid_to": Text("Of stamps to this date, TAI since 1970; NaN: no limit", "s"),
        "reason": Text("Why there is no correction"),
    },
    HISTORY: {
        "value": Text("Coefficient as published, in the unit of the row"),
        "configuration_digest": Text("Digest of the settings that change a result"),
        "published": Text("When it was published, UTC"),
        "observed_from": Text("Start of the observations, UTC"),
        "observed_until": Text("End of the observations, UTC"),
        "chosen": Text("The trends stand on this run"),
        "in_trend": Text("The trends stand on this run"),
        "relative": Text("Relative to the mean of the steady telescopes of the type"),
        "relative_error": Text("Its error, with the scatter from night to night"),
        "outlier": Text("The night stands out in the course of the telescope"),
        "first_night": Text("First night of the telescope"),
        "last_night": Text("Last night of the telescope"),
        "rate": Text("Change per day, with the steps fitted along", "1 / d"),
        "rate_error": Text("Statistical error of the rate", "1 / d"),
        "step_night": Text("First night behind the latest step"),
        "step": Text("Latest step"),
        "step_error": Text("Statistical error of the step"),
        "valid_from": Text("First night of the present validity interval"),
        "outlier_nights": Text("Nights that stand out"),
        "is_open": Text("The nights cannot tell a step from ageing"),
        "p_value": Text("Chance of such a change in a steady telescope"),
        "scatter": Text("Scatter from night to night beyond the stated errors; ln c, or ns"),
        "is_stable": Text("The telescope is part of the mean"),
        "flags": Text("What has changed, the better description first"),
        "result_path": Text("Folder of the result"),
    },
}


def describe(column: str, table: str = "", *, clocks: bool = False) -> Text:
    """Say what a column of a published table is.

    Parameters
    ----------
    column : str
        Its name.
    table : str
        Name of the table.
    clocks : bool
        Whether the coefficients are clock offsets.

    Returns
    -------
    Text
        Description and unit; the description is empty where nobody has written one.

    Examples
    --------
    >>> describe("error", clocks=True).unit
    'ns'
    """
    own, of_clocks = TABLES.get(table, {}), CLOCKS if clocks else {}
    text = of_clocks.get(column) or own.get(column) or COLUMNS.get(column) or Text("")
    endings = (unit for ending, unit in ENDINGS.items() if column.endswith(ending))
    return Text(text.description, text.unit or next(endings, ""))
