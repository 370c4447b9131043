"""Tables of a ctapipe DL2 file, data model v7.6.0, as ctapipe 0.32 writes them.

One constant spells out the columns of each table; `make_table` fills it with values. A constant
reads ``column dtype [unit]; ...``. Instead of a unit, ``@`` introduces what is no plain number:
``@mask`` telescopes in layout order, ``@time`` and ``@mjd`` times, ``@SomeEnum`` a ctapipe enum.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from arraycal.calib.hdf5.writing import Column

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TableData", "make_table"]

EVENT = "obs_id i4; event_id i8"
IMAGE = f"{EVENT}; tel_id i2"
#: apply-models widens tel_id and marks the telescopes used without saying that they are a mask.
MODEL = f"{EVENT}; tel_id i4"

LAYOUT = (
    "tel_id u2; name S; type S; pos_x f8 m; pos_y f8 m; pos_z f8 m; camera_name S; optics_name S;"
    "camera_index i8; optics_index i8; tel_description S"
)
OPTICS = (
    "optics_name S; size_type S; reflector_shape S; mirror_area f8 m**2; n_mirrors i8;"
    "n_mirror_tiles i8; equivalent_focal_length f8 m; effective_focal_length f8 m"
)
PIXELS = "pix_id i8; pix_x f8 m; pix_y f8 m; pix_area f8 m**2"
READOUT = (
    "reference_pulse_shape_channel0 f8; reference_pulse_shape_channel1 f8;"
    "reference_pulse_sample_time f8 ns"
)
OBSERVATION_BLOCK = (
    "obs_id i4; sb_id u8; producer_id S; state i8 @ObservationBlockState;"
    "subarray_pointing_lat f8 deg; subarray_pointing_lon f8 deg;"
    "subarray_pointing_frame i8 @CoordinateFrameType; scheduled_duration f8 min;"
    "scheduled_start_time f8 @mjd; actual_start_time f8 @mjd; actual_duration f8 min"
)
SCHEDULING_BLOCK = (
    "sb_id u8; sb_type i8 @SchedulingBlockType; producer_id S; observing_mode i8 @ObservingMode;"
    "pointing_mode i8 @PointingMode"
)
RUN = (
    "obs_id i8; run_number i4; corsika_version i8; simtel_version i8; energy_range_min f4 TeV;"
    "energy_range_max f4 TeV; prod_site_B_total f8 uT; prod_site_B_declination f8 rad;"
    "prod_site_B_inclination f8 rad; prod_site_alt f8 m; spectral_index f8; shower_prog_start i8;"
    "shower_prog_id i8; detector_prog_start i8; detector_prog_id i8; n_showers i8;"
    "shower_reuse i8; max_alt f4 rad; min_alt f4 rad; max_az f4 rad; min_az f4 rad; diffuse bool;"
    "max_viewcone_radius f4 deg; min_viewcone_radius f4 deg; max_scatter_range f4 m;"
    "min_scatter_range f4 m; core_pos_mode i8; atmosphere i8; corsika_iact_options i8;"
    "corsika_low_E_model i8; corsika_high_E_model i8; corsika_bunchsize f8;"
    "corsika_wlen_min f8 nm; corsika_wlen_max f8 nm; corsika_low_E_detail i8;"
    "corsika_high_E_detail i8"
)
POINTING = (
    "obs_id i4; tel_id i8; telescope_pointing_azimuth f8 rad; telescope_pointing_altitude f8 rad"
)
MONITORED_POINTING = "time u4 @time; azimuth f8 rad; altitude f8 rad"
ARRAY_TRIGGER = f"{EVENT}; time u4 @time; tels_with_trigger u1 @mask; event_type i8 @EventType"
TELESCOPE_TRIGGER = f"{IMAGE}; time u4 @time; event_type i8 @EventType; n_trigger_pixels i8"
#: Orientation and extent of the image, in the telescope's frame on the sky or in the camera's.
SKY_PARAMETERS = (
    "hillas_intensity f8; hillas_skewness f8; hillas_kurtosis f8;"
    "hillas_fov_lon f8 deg; hillas_fov_lat f8 deg; hillas_r f8 deg; hillas_phi f8 deg;"
    "hillas_length f8 deg; hillas_length_uncertainty f8 deg; hillas_width f8 deg;"
    "hillas_width_uncertainty f8 deg; hillas_psi f8 deg; hillas_psi_uncertainty f8 deg;"
    "hillas_transverse_cog_uncertainty f8 deg; timing_intercept f8; timing_deviation f8;"
    "timing_slope f8 deg**-1"
)
CAMERA_PARAMETERS = (
    "hillas_intensity f8; hillas_skewness f8; hillas_kurtosis f8;"
    "hillas_x f8 m; hillas_y f8 m; hillas_r f8 m; hillas_phi f8 deg;"
    "hillas_length f8 m; hillas_length_uncertainty f8 m; hillas_width f8 m;"
    "hillas_width_uncertainty f8 m; hillas_psi f8 deg; hillas_psi_uncertainty f8 deg;"
    "hillas_transverse_cog_uncertainty f8 m; timing_intercept f8; timing_deviation f8;"
    "timing_slope f8 m**-1"
)
PIXEL_PARAMETERS = (
    "leakage_pixels_width_1 f8; leakage_pixels_width_2 f8;"
    "leakage_intensity_width_1 f4; leakage_intensity_width_2 f4; concentration_cog f8;"
    "concentration_core f8; concentration_pixel f8; morphology_n_pixels i8;"
    "morphology_n_islands i8; morphology_n_small_islands i8; morphology_n_medium_islands i8;"
    "morphology_n_large_islands i8; intensity_max f4; intensity_min f4; intensity_mean f4;"
    "intensity_std f4; intensity_skewness f8; intensity_kurtosis f8; peak_time_max f4;"
    "peak_time_min f4; peak_time_mean f4; peak_time_std f4; peak_time_skewness f8;"
    "peak_time_kurtosis f8; core_psi f8 deg"
)
PARAMETERS = {
    "telescope": f"{IMAGE}; {SKY_PARAMETERS}; {PIXEL_PARAMETERS}",
    "camera": f"{IMAGE}; {CAMERA_PARAMETERS}; {PIXEL_PARAMETERS}".replace(
        "hillas_", "camera_frame_hillas_"
    ).replace("timing_", "camera_frame_timing_"),
}
GEOMETRY = (
    f"{EVENT}; alt f8 deg; alt_uncert f8 deg; az f8 deg; az_uncert f8 deg;"
    "ang_distance_uncert f8 deg; core_x f8 m; core_y f8 m; core_uncert_x f8 m; core_uncert_y f8 m;"
    "core_tilted_x f8 m; core_tilted_y f8 m; core_tilted_uncert_x f8 m;"
    "core_tilted_uncert_y f8 m; h_max f8 m; h_max_uncert f8 m; is_valid bool;"
    "average_intensity f8; goodness_of_fit f8; telescopes u1 @mask"
)
ARRAY_ENERGY = (
    f"{EVENT}; energy f8 TeV; energy_uncert f8 TeV; is_valid bool; goodness_of_fit f8;telescopes u1"
)
ARRAY_PARTICLE = f"{EVENT}; prediction f8; is_valid bool; goodness_of_fit f8; telescopes u1"
IMPACT = f"{IMAGE}; distance f8 m; distance_uncert f8 m"
ENERGY = f"{MODEL}; energy f8 TeV; is_valid bool; energy_uncert f8 TeV; goodness_of_fit f8"
PARTICLE = f"{MODEL}; prediction f8; is_valid bool; goodness_of_fit f8"
SHOWER = (
    f"{EVENT}; energy f8 TeV; alt f8 deg; az f8 deg; core_x f8 m; core_y f8 m; h_first_int f8 m;"
    "x_max f8 g.cm**-2; starting_grammage f8 g.cm**-2; shower_primary_id i2"
)
TRUE_IMAGE = f"{IMAGE}; true_image_sum i4"

#: Columns that identify a row and take no prefix.
KEYS = ("obs_id", "event_id", "tel_id")
#: The image parameters are the only table of several containers, each with a prefix of its own.
PARAMETER_PREFIX = re.compile(
    r"^(camera_frame_)?(hillas|timing|leakage|concentration|morphology|intensity|peak_time|core)_"
)


class TableData(NamedTuple):
    """A table ready to be written."""

    path: str
    """Absolute path in the file."""
    columns: dict[str, Column]
    """Columns in order."""
    attributes: dict[str, Any]
    """Attributes of the table beyond those of its columns."""


def make_table(
    path: str,
    schema: str,
    values: Mapping[str, Any],
    *,
    prefix: str = "",
    attributes: Mapping[str, Any] | None = None,
) -> TableData:
    """Fill the columns of a table.

    Parameters
    ----------
    path : str
        Absolute path in the file.
    schema : str
        One of the constants of this module.
    values : mapping of str to array or scalar
        Values by column; scalars are repeated. Columns without a value are missing: NaN, -1,
        False or the empty string, as ctapipe has it.
    prefix : str
        Put before the names of all columns but the keys.
    attributes : mapping, optional
        Further attributes of the table.

    Returns
    -------
    TableData
        The table.

    Examples
    --------
    >>> table = make_table("/t", "obs_id i4; energy f8 TeV", {"obs_id": 3}, prefix="true_")
    >>> [(name, column.data.tolist(), column.unit) for name, column in table.columns.items()]
    [('obs_id', [3], ''), ('true_energy', [nan], 'TeV')]
    """
    n_rows = max((len(value) for value in values.values() if np.ndim(value)), default=1)
    columns: dict[str, Column] = {}
    enums: dict[str, Any] = {}
    for index, entry in enumerate(schema.split(";")):
        name, dtype, unit = (*entry.split(), "")[:3]
        column = _column(name, dtype, unit, values.get(name), n_rows)
        columns[name if name in KEYS else prefix + name] = column
        if column.transform == "enum":
            # ctapipe finds the class by this pickled reference, which must be an ASCII attribute.
            reference = f"cctapipe.containers\n{unit[1:]}\np0\n."
            enums[f"CTAFIELD_{index}_ENUM"] = np.bytes_(reference.encode())
    return TableData(path, columns, enums | dict(attributes or {}))


def _column(name: str, dtype: str, unit: str, value: object, n_rows: int) -> Column:
    """One column from its entry in a schema."""
    if value is None:
        value = {"f": np.nan, "S": "", "b": False}.get(dtype[0], -1)
    data = np.asarray(value, None if dtype == "S" else dtype)
    if data.ndim == 0:
        data = np.repeat(data, n_rows)
    kind = unit[1:] if unit.startswith("@") else ""
    return Column(
        data,
        unit="" if kind else unit,
        name=PARAMETER_PREFIX.sub("", name),
        time_format={"time": "ctao_high_res", "mjd": "mjd"}.get(kind, ""),
        transform={"mask": "tel_list_to_mask", "time": "", "mjd": "", "": ""}.get(kind, "enum"),
    )
