"""Coefficients read from files, ours and of others, sound and not."""

import numpy as np
import pytest

from arraycal.calib.errors import CannotCompute, NothingToDo, WrongUsage
from arraycal.calib.hdf5.writing import Column, create_file, write_table
from arraycal.calib.monitoring.origin import TABLES
from arraycal.calib.monitoring.read_coefficients import read_coefficients

SERVICE = "/dl2/service/arraycal"


def coefficient_table(values, errors=None, tel_ids=(4, 7), tel_type="LST", number="value", unit=""):
    values = np.asarray(values, np.float64)
    errors = np.full(len(values), 0.01) if errors is None else np.asarray(errors, np.float64)
    return {
        "tel_type": Column(np.array([tel_type] * len(values), "S3").astype(np.str_)),
        "tel_id": Column(np.array(tel_ids[: len(values)], np.int64)),
        number: Column(values, unit),
        "error": Column(errors, unit),
    }


@pytest.fixture
def make_file(tmp_path):
    def make(tables, name="monitoring.h5", obs_ids=(1, 2)):
        path = tmp_path / name
        with create_file(path) as file:
            for table, columns in tables.items():
                write_table(file, table, columns, {"obs_id": np.array(obs_ids, np.uint64)})
        return path

    return make


def companions(calibration, configuration, tel_ids=(4, 7, 11)):
    n = len(tel_ids)
    return {
        f"{SERVICE}/{calibration}/telescopes": {
            "tel_type": Column(np.array(["LST"] * n)),
            "tel_id": Column(np.array(tel_ids, np.int64)),
            "reason": Column(np.array([""] * (n - 1) + ["3 showers, 50 needed (min_events)"])),
            **{f"pos_{axis}": Column(np.arange(n) * 100.0, "m") for axis in "xyz"},
        },
        f"{SERVICE}/{calibration}/configuration": {"line": Column(np.array(configuration))},
    }


def test_a_file_of_another_program_needs_the_quantity(make_file):
    path = make_file({TABLES["inter"]: coefficient_table([1.1, 0.9])})
    with pytest.raises(WrongUsage, match="--quantity energy or --quantity size"):
        read_coefficients(path)
    read = read_coefficients(path, quantity="size")
    assert read.columns == ("hillas_intensity", "camera_frame_hillas_intensity")
    assert read.slope == 1
    assert read.calibration == ""
    assert read.obs_ids == (1, 2)
    assert read.telescopes["value"].to_list() == [1.1, 0.9]
    assert read.telescopes["pos_x"].is_nan().all()


def test_our_file_says_what_it_is_of_with_which_slope_and_why_a_telescope_has_none(make_file):
    lines = [
        "CalculateAsymmetry:",
        "  energy_reconstructor: ExtraTrees",
        "RelativeThroughputFitter: {response_slope: 0.5}",
    ]
    table = {TABLES["inter"]: coefficient_table([1.1, 0.9])}
    read = read_coefficients(make_file(table | companions("energy-inter", lines)))
    assert (read.quantity, read.calibration, read.slope) == ("energy", "energy-inter", 0.5)
    assert read.columns == ("ExtraTrees_tel_energy",)
    last = read.telescopes.row(-1, named=True)
    assert (last["tel_id"], last["reason"]) == (11, "3 showers, 50 needed (min_events)")
    assert np.isnan(last["value"])
    assert read.telescopes["pos_x"].to_list() == [0, 100, 200]


def test_the_quantity_of_our_file_cannot_be_denied(make_file):
    table = {TABLES["inter"]: coefficient_table([1.1, 0.9])}
    path = make_file(table | companions("energy-inter", ["{}"]))
    with pytest.raises(WrongUsage, match="belong to energy, not to size"):
        read_coefficients(path, quantity="size")


@pytest.mark.parametrize(
    ("made_by", "column"),
    [
        ("energy-inter", "hillas_intensity"),
        ("energy-inter", "camera_frame_hillas_intensity"),
        ("image-inter", "RandomForestRegressor_tel_energy"),
        ("image-inter", "time"),
        # They do not grow with the light, or as its square root at most.
        ("image-inter", "hillas_width"),
        ("image-inter", "hillas_psi"),
        ("image-inter", "leakage_intensity_width_2"),
        ("image-inter", "intensity_skewness"),
        ("energy-inter", "RandomForestRegressor_tel_energy_uncert"),
        ("energy-inter", "RandomForestRegressor_tel_is_valid"),
        ("energy-inter", "energy"),
    ],
)
def test_a_column_of_another_quantity_is_refused(make_file, made_by, column):
    path = make_file({TABLES["inter"]: coefficient_table([1.1, 0.9])} | companions(made_by, ["{}"]))
    with pytest.raises(WrongUsage, match=f"column {column} does not"):
        read_coefficients(path, column=column)


def test_another_column_of_the_same_quantity_can_be_chosen(make_file):
    inter = {TABLES["inter"]: coefficient_table([1.1, 0.9])}
    path = make_file(inter | companions("energy-inter", ["{}"]))
    assert read_coefficients(path, column="ExtraTrees_tel_energy").columns == (
        "ExtraTrees_tel_energy",
    )


@pytest.mark.parametrize(
    "column", ["camera_frame_hillas_intensity", "intensity_max", "intensity_mean"]
)
def test_intensities_of_all_kinds_are_sizes(make_file, column):
    inter = {TABLES["inter"]: coefficient_table([1.1, 0.9])}
    path = make_file(inter | companions("image-inter", ["{}"]))
    assert read_coefficients(path, column=column).columns == (column,)


def test_the_column_that_our_coefficients_were_made_from_is_one_of_theirs(make_file):
    lines = ["CalculateImageAsymmetry: {image_reconstructor: charge}"]
    path = make_file(
        {TABLES["inter"]: coefficient_table([1.1, 0.9])} | companions("image-inter", lines)
    )
    assert read_coefficients(path, column="charge").columns == ("charge",)
    with pytest.raises(WrongUsage, match="hillas_intensity, or one whose name ends in intensity"):
        read_coefficients(path, column="total_charge")


def test_the_inter_calibration_in_our_cross_calibration_belongs_to_energy(make_file):
    lines = [
        "CalculateCrossCalibration: {energy_reconstructor: ExtraTrees}",
        "RelativeThroughputFitter: {response_slope: 0.5}",
    ]
    tables = {
        TABLES["inter"]: coefficient_table([1.1, 0.9]),
        TABLES["cross"]: coefficient_table([1.2, 0.8]),
    }
    path = make_file(tables | companions("energy-cross", lines))
    read = read_coefficients(path, table="inter")
    assert (read.quantity, read.calibration, read.slope) == ("energy", "energy-cross", 0.5)
    assert read.columns == ("ExtraTrees_tel_energy",)
    assert read.telescopes["value"].to_list()[:2] == [1.1, 0.9]


@pytest.mark.parametrize(
    "table",
    [coefficient_table([5.0, 2.0], number="offset", unit="ns"),
     coefficient_table([], number="offset", unit="ns")],
)  # fmt: skip
def test_an_unusable_result_is_refused_with_its_verdict(make_file, table):
    made = companions("timing-cross", ["{}"])
    made[f"{SERVICE}/timing-cross/fit"] = {
        "key": Column(np.array(["verdict", "settled"])),
        "value": Column(np.array(["unusable: 13 noisy", "false"])),
    }
    path = make_file({TABLES["timing"]: table} | made)
    with pytest.raises(CannotCompute, match="timing-cross is unusable: 13 noisy"):
        read_coefficients(path)


def test_times_have_no_other_column(make_file):
    path = make_file({TABLES["timing"]: coefficient_table([1.0], number="offset", unit="ns")})
    with pytest.raises(WrongUsage, match="belong to time, column hillas_intensity does not"):
        read_coefficients(path, column="hillas_intensity")


def test_two_calibrations_that_could_have_made_a_table_are_none_that_did(make_file):
    table = {TABLES["inter"]: coefficient_table([1.1, 0.9])}
    made = companions("energy-inter", ["{}"]) | companions("image-inter", ["{}"])
    with pytest.raises(WrongUsage, match="--quantity"):
        read_coefficients(make_file(table | made))


def test_cross_calibration_is_preferred_and_inter_calibration_can_be_chosen(make_file):
    path = make_file(
        {
            TABLES["inter"]: coefficient_table([1.1, 0.9]),
            TABLES["cross"]: coefficient_table([1.2, 0.8]),
        }
    )
    assert read_coefficients(path, quantity="energy").telescopes["value"].to_list() == [1.2, 0.8]
    chosen = read_coefficients(path, quantity="energy", table="inter")
    assert chosen.telescopes["value"].to_list() == [1.1, 0.9]


def test_a_cross_calibration_added_to_our_inter_calibration_does_not_borrow_its_quantity(make_file):
    tables = {
        TABLES["inter"]: coefficient_table([1.1, 0.9]),
        TABLES["cross"]: coefficient_table([1.2, 0.8]),
    }
    path = make_file(tables | companions("energy-inter", ["{}"]))
    with pytest.raises(WrongUsage, match="cross_calibration"):
        read_coefficients(path)
    assert read_coefficients(path, table="inter").quantity == "energy"


def test_time_offsets_are_in_ns_whatever_their_unit_and_may_be_negative(make_file):
    table = coefficient_table([0.5, -2.0], number="offset", unit="us")
    read = read_coefficients(make_file({TABLES["timing"]: table}))
    assert read.quantity == "time"
    assert read.telescopes["value"].to_list() == [500, -2000]
    assert read.telescopes["error"].to_list() == pytest.approx([10, 10])


def test_time_offsets_in_metres_are_refused(make_file):
    table = coefficient_table([0.5, -2.0], number="offset", unit="m")
    with pytest.raises(CannotCompute, match=r"offset of .* is in m, expected ns"):
        read_coefficients(make_file({TABLES["timing"]: table}))


def test_a_file_with_throughput_and_times_needs_a_choice(make_file):
    tables = {
        TABLES["inter"]: coefficient_table([1.1, 0.9]),
        TABLES["timing"]: coefficient_table([1.0, 2.0], number="offset", unit="ns"),
    }
    path = make_file(tables)
    with pytest.raises(WrongUsage, match="--table inter or timing"):
        read_coefficients(path)
    assert read_coefficients(path, table="timing").quantity == "time"


def test_a_nan_coefficient_is_none(make_file):
    path = make_file({TABLES["inter"]: coefficient_table([np.nan, 0.9])})
    read = read_coefficients(path, quantity="energy")
    assert read.telescopes["reason"].to_list() == ["its coefficient is NaN", ""]


@pytest.mark.parametrize("value", [0.0, -1.0, np.inf])
def test_a_coefficient_that_can_be_none_costs_the_file(make_file, value):
    path = make_file({TABLES["inter"]: coefficient_table([1.0, value])})
    with pytest.raises(CannotCompute, match=r"can be none for telescope 7"):
        read_coefficients(path, quantity="energy")


@pytest.mark.parametrize("error", [-0.1, np.inf])
def test_an_error_that_can_be_none_costs_the_file(make_file, error):
    path = make_file({TABLES["inter"]: coefficient_table([1.0, 1.0], [0.1, error])})
    with pytest.raises(CannotCompute, match=r"can be none for telescope 7"):
        read_coefficients(path, quantity="energy")


def test_a_repeated_telescope_costs_the_file(make_file):
    path = make_file({TABLES["inter"]: coefficient_table([1.0, 1.1], tel_ids=(4, 4))})
    with pytest.raises(CannotCompute, match="more than one row for telescope 4"):
        read_coefficients(path, quantity="energy")


def test_a_table_without_rows_is_nothing_to_do(make_file):
    path = make_file({TABLES["inter"]: coefficient_table([])})
    with pytest.raises(NothingToDo, match="has no rows"):
        read_coefficients(path, quantity="energy")


def test_a_column_of_text_is_no_coefficient(make_file):
    table = coefficient_table([1.0, 1.1])
    table["value"] = Column(np.array(["one", "two"]))
    with pytest.raises(CannotCompute, match="column value is"):
        read_coefficients(make_file({TABLES["inter"]: table}), quantity="energy")


def test_a_file_without_coefficients_says_what_it_holds(make_file):
    path = make_file({"/dl1/something": coefficient_table([1.0])})
    with pytest.raises(CannotCompute, match=r"no table of coefficients; the file holds: dl1"):
        read_coefficients(path)
    with pytest.raises(CannotCompute, match="no table /dl2/monitoring/subarray/timing_calibration"):
        read_coefficients(path, table="timing")


def test_a_missing_file_and_one_that_is_no_hdf5_are_told_apart(tmp_path):
    with pytest.raises(WrongUsage, match="there is nothing"):
        read_coefficients(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(CannotCompute, match="not a readable HDF5 file"):
        read_coefficients(tmp_path / "text.h5")


def test_a_damaged_configuration_is_no_configuration(make_file):
    table = {TABLES["inter"]: coefficient_table([1.1, 0.9])}
    path = make_file(table | companions("energy-inter", ["a: [1, 2"]))
    with pytest.raises(CannotCompute, match="configuration is damaged"):
        read_coefficients(path)


@pytest.mark.parametrize("slope", ["0", "-1", ".nan", "steep"])
def test_a_slope_that_can_be_none_is_refused(make_file, slope):
    lines = [f"RelativeThroughputFitter: {{response_slope: {slope}}}"]
    table = {TABLES["inter"]: coefficient_table([1.1, 0.9])}
    with pytest.raises(CannotCompute, match="response_slope is"):
        read_coefficients(make_file(table | companions("energy-inter", lines)))
