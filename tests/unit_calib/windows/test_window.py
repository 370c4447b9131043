"""Windows of nights from the history: what is in them, what is left out, what is refused."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import sqlalchemy as sa
from toy_pairs import Toy, toy_pairs, toy_subarray

from arraycal.calib.checks.curve_table import BLOCK_NOTES, with_notes
from arraycal.calib.checks.judged_parts import CONSTANCY
from arraycal.calib.checks.parts import CONSTANCY_DEVIATIONS, CONSTANCY_PARTS
from arraycal.calib.errors import CannotCompute, NothingToDo, WrongUsage
from arraycal.calib.fit.loop import fit
from arraycal.calib.fit.options import fit_options
from arraycal.calib.fit.showers import prepare_pairs
from arraycal.calib.fit.sums.kept import Sums
from arraycal.calib.history.database import open_history
from arraycal.calib.history.digest import configuration_digest
from arraycal.calib.history.errors import HistoryError
from arraycal.calib.history.reading import Selection
from arraycal.calib.history.recording import entry_of, record
from arraycal.calib.history.tables import Run, StoredSums
from arraycal.calib.history.window import USED, WindowNight, read_window
from arraycal.calib.observables import ENERGY_CROSS, ENERGY_INTER, TIMING_CROSS
from arraycal.calib.report import html
from arraycal.calib.result.result import Verdict
from arraycal.calib.schema import BLOCKS, REJECTED
from arraycal.calib.windows.nights import STABILITY, WINDOW
from arraycal.calib.windows.solve import refuse_unmergeable, solve_window
from arraycal.config.dumping import to_yaml
from arraycal.config.loading import load_configuration

FIRST = date(2026, 3, 1)
N = 6
SUBARRAY = toy_subarray(N)
TRUTH = np.linspace(-0.1, 0.1, N)
CONFIGURATION = load_configuration(
    [], preset="energy-inter", overrides=["ShowerSelection.margin=1.0"]
)
OTHER = load_configuration([], preset="energy-inter", overrides=["ShowerSelection.margin=1.5"])


def sums_of(number, truth=TRUTH, subarray=SUBARRAY):
    """Sums of a night of 8,000 showers, of which a trigger leaves 8 %."""
    toy = Toy(truth.tolist(), [0.2] * N, 8000, 4, trigger=0.0)
    showers = prepare_pairs(toy_pairs(toy, 10 + number), subarray)
    fitted = fit(lambda: [showers], subarray, fit_options(CONFIGURATION, subarray))
    row = (f"block_{number}.dl2.h5", "ok", "", str(100 + number), "v7", "f0", 10, 20, False)
    tables = {
        "blocks": pl.DataFrame([row], schema=BLOCKS, orient="row"),
        "rejected": pl.DataFrame([("pair", "odd", 7)], schema=REJECTED, orient="row"),
    }
    model = fitted.model
    return Sums(subarray, fitted.summary, fitted.halves, model, fitted.settled, tables)


def result_of(number, **changes):
    """What a run of the night would have published."""
    sums = sums_of(number, **changes)
    night = WindowNight(FIRST + timedelta(days=number), USED, sums=sums)
    result = solve_window([night], ENERGY_INTER, CONFIGURATION)
    return replace(result, sums=sums, verdict=Verdict("usable"))


@pytest.fixture(scope="module")
def results():
    return [result_of(number) for number in range(4)]


@pytest.fixture
def history(tmp_path):
    with open_history(f"sqlite:///{tmp_path}/history.sqlite") as history:
        yield history


def put(history, result, number, configuration=CONFIGURATION):
    path = Path(f"/data/{number}/result.json")
    night = FIRST + timedelta(days=number)
    return record(history, entry_of(result, night, configuration, result_path=path))


def window_of(history, last=3, **changes):
    until = FIRST + timedelta(days=last)
    return read_window(history, Selection("energy-inter", FIRST, until, **changes))


def solved(window):
    provenance = {"window": window.origin}
    return solve_window(window.nights, ENERGY_INTER, window.configuration, provenance)


def test_a_window_is_a_whole_result_of_its_nights(history, results):
    ids = [put(history, result, number) for number, result in enumerate(results)]
    result = solved(window_of(history))
    assert result.verdict.status == "usable"
    assert result.obs_ids == (100, 101, 102, 103)
    assert result.blocks["path"].to_list() == [f"block_{n}.dl2.h5" for n in range(4)]
    assert result.blocks["cached"].all()
    # Rows that the blocks lost add up, as do those the margin took in the nights.
    lost = dict(result.rejected.select("rule", "rows").rows())
    below = sum(night.sums.summary.n_below_margin for night in results)
    assert lost["odd"] == 28
    assert sorted(lost.values()) == sorted([28, int(below)])
    used = sum(night.telescopes["n_events"].to_numpy() for night in results)
    assert result.telescopes["n_events"].to_list() == list(used)
    assert [run["run_id"] for run in result.provenance["window"]["runs"]] == ids
    assert result.provenance["window"]["configuration_digest"] == configuration_digest(
        CONFIGURATION
    )
    assert result.fit["window"] == "2026-03-01 to 2026-03-04"
    assert result.fit["gauge"] == "geometric_mean"
    schemas = {
        "window": WINDOW,
        "stability": STABILITY,
        "constancy": CONSTANCY,
        "constancy_parts": CONSTANCY_PARTS,
        "constancy_deviations": CONSTANCY_DEVIATIONS,
    }
    for name, schema in schemas.items():
        assert result.extras[name].schema == schema
    assert len(result.extras["constancy_deviations"]) == 4 * N
    found = np.log(result.telescopes["value"].to_numpy())
    # Four nights of some 640 showers of 4 of 6 telescopes: sigma 0.2 / sqrt(1700), about 0.5 %.
    assert np.all(np.abs(found - TRUTH) < 0.025)
    error = [np.median(one.telescopes["error"].to_numpy()) for one in (result, results[0])]
    assert 0.4 < error[0] / error[1] < 0.62
    page = html(result)
    assert "4 nights in use, 0 left out, 0 without a run" in page
    assert "Part by part (4)" in page


def test_sums_from_the_database_give_the_result_of_those_in_memory(history, results):
    for number, result in enumerate(results):
        put(history, result, number)
    nights = [
        WindowNight(FIRST + timedelta(days=number), USED, sums=result.sums)
        for number, result in enumerate(results)
    ]
    direct = solve_window(nights, ENERGY_INTER, CONFIGURATION)
    stored = solved(window_of(history))
    assert stored.telescopes.equals(direct.telescopes, null_equal=True)
    np.testing.assert_array_equal(stored.covariance, direct.covariance)
    for name in ("constancy_deviations", "stability"):
        assert stored.extras[name].equals(direct.extras[name], null_equal=True)


def test_nights_that_are_not_in_a_window_are_named_with_their_reason(history, results):
    put(history, results[0], 0)
    # Night 1 has no run.
    put(history, replace(results[2], verdict=Verdict("unusable", ("no coefficient",))), 2)
    put(history, replace(results[3], sums=None), 3)
    put(history, replace(results[1], obs_ids=(100,)), 4)
    put(history, results[2], 5)
    damaged = put(history, results[1], 6)
    with history.writing() as connection:
        where = StoredSums.run_id == damaged
        connection.execute(sa.update(StoredSums).where(where).values(content=b"damaged"))
    result = solved(window_of(history, last=6))
    table = result.extras["window"]
    assert table["status"].to_list() == [
        "used", "no run", "left out", "left out", "left out", "used", "left out",
    ]  # fmt: skip
    reasons = table["reason"].to_list()
    assert reasons[2] == "its run is unusable: no coefficient"
    assert reasons[3].startswith("recorded without sums; calibrate the night again (arraycal ")
    assert "--night 2026-03-04 --again" in reasons[3]
    assert reasons[4] == "observation 100 is already in the run of 2026-03-01"
    assert reasons[6].startswith("the stored sums are damaged")
    counts = ("nights_used", "nights_left_out", "nights_without_run")
    assert [result.fit[name] for name in counts] == [2, 4, 1]
    assert result.verdict.status == "degraded"
    (reason,) = result.verdict.reasons
    assert reason.startswith("4 runs of the window left out (2026-03-03: its run is unusable")
    assert result.obs_ids == (100, 102)
    assert "2 nights in use, 4 left out, 1 without a run" in html(result)


def test_notes_on_blocks_stay_with_them(history, results):
    for number in (0, 2):
        note = [(f"block_{number}.dl2.h5", "pointing", "of the configuration")]
        put(history, with_notes(results[number], note), number)
    put(history, results[1], 1)
    notes = solved(window_of(history)).extras["block_notes"]
    assert notes.schema == BLOCK_NOTES
    assert notes["path"].to_list() == ["block_0.dl2.h5", "block_2.dl2.h5"]


def test_what_a_run_found_in_its_showers_is_passed_on_and_what_sums_tell_is_not(history, results):
    for number, result in enumerate(results):
        verdict = Verdict("degraded", ("2 telescopes too rare", f"scan {number} is no plateau"))
        judged = replace(result.sums, judged=("2 telescopes too rare",))
        put(history, replace(result, verdict=verdict, sums=judged) if number else result, number)
    result = solved(window_of(history))
    assert result.verdict.status == "degraded"
    (reason,) = result.verdict.reasons
    assert reason.startswith("3 of 4 runs in use are degraded for what a window does not see (")
    assert reason.endswith("(2026-03-04: scan 3 is no plateau)")


def test_a_telescope_that_changes_makes_the_nights_disagree(results):
    moved = [result_of(4 + n, truth=TRUTH + 0.08 * np.eye(N)[2]) for n in range(2)]
    nights = [
        WindowNight(FIRST + timedelta(days=number), USED, sums=result.sums)
        for number, result in enumerate([*results[:2], *moved])
    ]
    result = solve_window(nights, ENERGY_INTER, CONFIGURATION)
    assert result.verdict.status == "degraded"
    (reason,) = result.verdict.reasons
    assert reason.startswith("the nights disagree beyond their errors (MST: 2026-03-0")
    assert ", telescope 3 by " in reason
    row = result.extras["stability"].filter(pl.col("tel_id") == 3).row(0, named=True)
    # Half the nights at 0, half at 0.08: rms 0.04, times sqrt(n / (n - 1)) of four nights.
    # From the mean of all six a telescope deviates by 5/6 of that, known to 0.012.
    assert row["scatter"] == pytest.approx(0.04 * np.sqrt(4 / 3), abs=0.012 * 6 / 5)
    assert row["probability"] < 1e-4
    page = html(result)
    assert "the nights disagree" in page
    assert '<tr class="warn"><td>MST</td><td class="n">3</td><td class="n">4</td>' in page


def test_runs_of_several_configurations_are_refused_until_one_is_chosen(history, results):
    for number in range(3):
        put(history, results[number], number)
    put(history, replace(results[3], configuration=to_yaml(OTHER)), 3, OTHER)
    mine, other = configuration_digest(CONFIGURATION), configuration_digest(OTHER)
    with pytest.raises(WrongUsage, match=r"2 configurations.*choose one with --configur") as found:
        window_of(history)
    assert f"  {mine}: 3 nights, 2026-03-01 to 2026-03-03" in str(found.value)
    assert f"  {other}: 1 night, 2026-03-04 to 2026-03-04" in str(found.value)
    window = window_of(history, configuration=other[:6])
    assert [night.status for night in window.nights] == ["no run"] * 3 + ["used"]
    assert window.configuration == OTHER


def test_runs_that_cannot_be_used_do_not_count_among_the_configurations(history, results):
    put(history, results[0], 0)
    other = replace(results[1], configuration=to_yaml(OTHER), verdict=Verdict("unusable", ("bad",)))
    put(history, other, 0, OTHER)
    put(history, other, 1, OTHER)
    put(history, replace(other, verdict=Verdict("usable"), sums=None), 2, OTHER)
    put(history, results[3], 3)
    window = window_of(history)
    assert [night.status for night in window.nights] == ["used", "left out", "left out", "used"]
    assert window.configuration == CONFIGURATION
    assert window.origin["configuration_digest"] == configuration_digest(CONFIGURATION)


def test_many_nights_without_a_run_are_one_row(history, results):
    put(history, results[0], 0)
    put(history, results[1], 2)
    window = read_window(history, Selection("energy-inter", date(1, 1, 1), date(9999, 12, 31)))
    result = solved(window)
    assert result.extras["window"]["night"].to_list() == [
        "0001-01-01 to 2026-02-28",
        *(f"2026-03-0{day}" for day in (1, 2, 3)),
        "2026-03-04 to 9999-12-31",
    ]
    assert result.fit["window"] == "0001-01-01 to 9999-12-31"
    n_nights = date(9999, 12, 31).toordinal()
    assert (result.fit["nights_used"], result.fit["nights_without_run"]) == (2, n_nights - 2)
    assert "0001-01-01 to 2026-02-28" in html(result)


def test_a_damaged_list_of_observations_costs_its_night(history, results):
    ids = [put(history, results[number], number) for number in range(3)]
    with history.writing() as connection:
        for run_id, damaged in zip(ids, (5, ["5"]), strict=False):
            change = sa.update(Run).where(Run.id == run_id)
            connection.execute(change.values(obs_ids=damaged))
    result = solved(window_of(history))
    assert result.extras["window"]["status"].to_list() == ["left out", "left out", "used", "no run"]
    assert "its list of observations is damaged" in result.extras["window"]["reason"][0]
    assert result.obs_ids == (102,)
    with history.writing() as connection:
        connection.execute(sa.text("UPDATE runs SET obs_ids = '[5'"))
    with pytest.raises(HistoryError, match="damaged: a cell holds no JSON"):
        window_of(history)


def test_nights_that_did_not_settle_are_named(history, results):
    for number in range(3):
        sums = replace(results[number].sums, settled=number != 1)
        put(history, replace(results[number], sums=sums), number)
    (reason,) = solved(window_of(history)).verdict.reasons
    assert reason.startswith("the iteration of 1 of 3 runs in use did not settle (2026-03-02): ")


def test_a_window_without_a_run_is_nothing_to_do(history, results):
    with pytest.raises(NothingToDo, match="no run of energy-inter from 2026-03-01 to 2026-03-04"):
        window_of(history)
    put(history, results[0], 9)
    with pytest.raises(NothingToDo):
        window_of(history)
    with pytest.raises(NothingToDo, match="no run of energy-inter of configuration abc from"):
        window_of(history, last=20, configuration="abc")


def test_a_window_that_ends_before_it_begins_is_refused(history):
    with pytest.raises(WrongUsage, match="from 2026-03-01 to 2026-02-28"):
        window_of(history, last=-1)


def test_a_window_of_runs_that_cannot_be_used_says_why_for_each(history, results):
    for number in range(2):
        put(history, replace(results[number], sums=None), number)
    with pytest.raises(CannotCompute, match="none of the 2 runs") as found:
        solved(window_of(history))
    assert "2026-03-02: recorded without sums" in str(found.value)


def test_sums_of_another_version_are_refused(history, results):
    for number in range(2):
        put(history, results[number], number)
    with history.writing() as connection:
        connection.execute(sa.update(StoredSums).values(format=99))
    with pytest.raises(
        CannotCompute, match=r"sums of 2026-03-01, 2026-03-02 have format 99, .* reads format 2"
    ):
        window_of(history)


def test_nights_of_another_array_are_refused(history, results):
    x, y, z = SUBARRAY.positions_m[2]
    places = (*SUBARRAY.positions_m[:2], (x, y + 5.0, z), *SUBARRAY.positions_m[3:])
    put(history, results[0], 0)
    put(history, result_of(1, subarray=replace(SUBARRAY, positions_m=places)), 1)
    with pytest.raises(
        CannotCompute,
        match=r"array of 2026-03-02 is not that of 2026-03-01: telescopes moved: \[3\]",
    ):
        solved(window_of(history))


@pytest.mark.parametrize(
    ("observable", "override", "reason"),
    [
        (TIMING_CROSS, None, "timing-cross cannot be merged: clocks drift, jump"),
        (ENERGY_CROSS, "method=three_step", "method three_step cannot be merged"),
        (ENERGY_CROSS, "simulation_reference=x.json", "with a simulation_reference cannot be"),
    ],
)
def test_calibrations_without_a_common_solution_are_refused(observable, override, reason):
    overrides = [f"CalculateCrossCalibration.{override}"] if override else []
    configuration = load_configuration([], preset=observable.name, overrides=overrides)
    with pytest.raises(WrongUsage, match=reason):
        refuse_unmergeable(observable, configuration)
    refuse_unmergeable(ENERGY_INTER, configuration)
