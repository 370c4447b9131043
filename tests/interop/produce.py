"""Material for the exchange with ctao-calibpipe, made in our environment.

``produce.py FOLDER`` simulates small nights with fixed seeds and calibrates them. For each array,
the folder then holds ``blocks`` with their truth, our event rows as ``pairs.csv`` and their means
as ``pair_summary.csv``, our ``asymmetries`` in the peer's format, and the results
``peer_selection``, ``recommended``, ``cross`` (of telescope types) and ``lacking``, which lacks a
telescope, and what was ``corrected`` with them. The same of image sizes is in ``images``. The
configurations of the peer's tools are in ``configs``; those of its user guide are named ``guide``,
and what our presets for the comparison make of them is in ``guide`` of the array.
"""

import sys
from dataclasses import replace
from pathlib import Path

import polars as pl

from arraycal.calib.apply.block import apply_to_block
from arraycal.calib.apply.lookup import write_lookup
from arraycal.calib.blocks.pair_rows import pairs_of_block
from arraycal.calib.calibrate import calibrate
from arraycal.calib.monitoring.read_coefficients import read_coefficients
from arraycal.calib.observables import ENERGY_CROSS, ENERGY_INTER, IMAGE_INTER, OBSERVABLES
from arraycal.calib.pairs.exchange import write_asymmetries
from arraycal.calib.publish.writing import provenance, publish
from arraycal.calib.simulation import SimulationSettings, simulate_night
from arraycal.calib.simulation.arrays import ArrayName
from arraycal.calib.simulation.settings import PointingTable
from arraycal.config import Configuration, load_configuration

SHOWERS: dict[ArrayName, int] = {"north": 4000, "mixed": 2500}
SEED = 20

#: The peer's selection; wide in distance asymmetry, so that every pair keeps several showers.
SELECTION = """
QualityQuery:
  quality_criteria:
    - ["energy threshold", "RandomForestRegressor_tel_energy > 50 * u.GeV"]
    - ["gammaness", "RandomForestClassifier_tel_prediction > 0.5"]
    - ["valid reco", "RandomForestRegressor_tel_is_valid"]
PairFinder:
  max_impact_distance:
    - [type, "LST*", 125.0]
    - [type, "MST*", 125.0]
    - [type, "SST*", 225.0]
"""
ASYMMETRY = f"""
CalculateEnergyAsymmetry:
  event_filters:
    max_distance_asymmetry: 0.8
  chunk_size: 100000
  energy_reconstructor: RandomForestRegressor
  geometry_reconstructor: HillasReconstructor
  gammaness_reconstructor: RandomForestClassifier
{SELECTION}"""
INTER_CALIBRATION = """
CalculateInterCalibration: {overwrite: true, asymmetry_label: energy_asymmetry}
RelativeThroughputFitter:
  throughput_normalisation: {LST: 1.0, MST: 1.0, SST: 1.0}
  reference_telescopes: {LST: 1, MST: 5, SST: 34}
"""
CROSS_CALIBRATION = f"""
CalculateCrossCalibration:
  overwrite: true
  energy_reconstructor: RandomForestRegressor
  geometry_reconstructor: HillasReconstructor
  gammaness_reconstructor: RandomForestClassifier
  min_triggered_telescopes_per_subsystem: 1
  reference_subsystem: MST
  chunk_size: 100000
{SELECTION}"""
#: Wide in distance, too; the cut on the size is above the trigger of LST and MST.
IMAGE_ASYMMETRY = """
CalculateImageAsymmetry:
  event_filters:
    minimum_individual_intensity:
      - [type, "LST*", 90.0]
      - [type, "MST*", 90.0]
      - [type, "SST*", 60.0]
    equidistant_event_selection:
      - [type, "*", [0.3, 0.3]]
  chunk_size: 100000
  image_reconstructor: hillas_intensity
  geometry_reconstructor: HillasReconstructor
QualityQuery:
  quality_criteria:
    - ["valid reco", "HillasReconstructor_is_valid"]
PairFinder:
  max_impact_distance:
    - [type, "LST*", 125.0]
    - [type, "MST*", 125.0]
    - [type, "SST*", 225.0]
"""
#: Settings of every file of the peer's user guide that configures one of its array tools.
GUIDE_SIZES = IMAGE_ASYMMETRY.replace("90.0", "80.0").replace("60.0", "80.0")
GUIDE_SIZES = GUIDE_SIZES[: GUIDE_SIZES.index("Qual")] + GUIDE_SIZES[GUIDE_SIZES.index("Pair") :]
GUIDE = {
    "guide_energy_asymmetry": ASYMMETRY.replace("0.8", '[[type, "*", 0.05]]'),
    "guide_energy_inter_calibration": INTER_CALIBRATION,
    "guide_image_asymmetry": GUIDE_SIZES.replace("[0.3, 0.3]", "[0.05, 0.1]"),
    "guide_image_asymmetry_no_equidistant": GUIDE_SIZES.replace("equidistant_event_selection", "#")
    .replace('- [type, "*", [0.3, 0.3]]', ""),
    "guide_image_inter_calibration": INTER_CALIBRATION.replace("energy_asym", "image_asym"),
    "guide_energy_cross_calibration": CROSS_CALIBRATION.replace("subsystem: 1", "subsystem: 2"),
}  # fmt: skip
#: Array with the telescopes of all types that the guide names.
GUIDE_ARRAY = "mixed"
CONFIGS = {
    "asymmetry": ASYMMETRY,
    "image_asymmetry": IMAGE_ASYMMETRY,
    "image_inter_calibration": INTER_CALIBRATION.replace("energy_asym", "image_asym"),
    "inter_calibration": INTER_CALIBRATION,
    "cross_calibration": CROSS_CALIBRATION,
    **GUIDE,
}
ROW_COLUMNS = ["obs_id", "event_id", "tel_id_1", "tel_id_2", "value_1", "value_2", "asymmetry"]
#: Two showers make a standard deviation, which is all the peer asks for.
PAIR_ESTIMATOR = (
    "RelativeThroughputFitter.estimator=pair",
    "RelativeThroughputFitter.min_events=2",
    "RelativeThroughputFitter.min_common_events=2",
)
#: The peer takes the altitude of its equidistant selection from the last one and nowhere else.
POINTING_TABLES: tuple[PointingTable, ...] = ("observation", "configuration", "dl1")
#: One MST, the peer's reference type, for a result that lacks it.
LOST_TELESCOPE = 6


def produce(folder: Path) -> None:
    """Write everything."""
    configs = folder / "configs"
    configs.mkdir(parents=True)
    for name, text in CONFIGS.items():
        (configs / f"{name}.yaml").write_text(text, encoding="utf-8")
    paths = [configs / "asymmetry.yaml", configs / "inter_calibration.yaml"]
    peer = load_configuration(paths, overrides=PAIR_ESTIMATOR)
    recommended = load_configuration(preset="energy-inter")
    paths = [configs / "image_asymmetry.yaml", configs / "image_inter_calibration.yaml"]
    images = load_configuration(paths, overrides=PAIR_ESTIMATOR)
    for array, n_showers in SHOWERS.items():
        home = folder / array
        settings = SimulationSettings(
            array=array,
            n_blocks=2,
            n_showers=n_showers,
            seed=SEED,
            pointing_tables=POINTING_TABLES,
        )
        simulate_night(home / "blocks", settings)
        run(home, "peer_selection", peer)
        run(home, "recommended", recommended)
        run_images(home, images)
        run_cross(home)
        run_apply(home)
        if array == GUIDE_ARRAY:
            run_guide(home, configs)


def run_guide(home: Path, configs: Path) -> None:
    """Calibrate with files of the user guide beside the preset for the comparison."""
    for name in GUIDE:
        if "asymmetry" not in name:
            continue
        kind = "energy" if "energy" in name else "image"
        observable = OBSERVABLES[f"{kind}-inter"]
        files = [configs / f"{name}.yaml", configs / f"guide_{kind}_inter_calibration.yaml"]
        configuration = load_configuration(files, preset=f"{kind}-inter-peer")
        paths = sorted((home / "blocks").glob("*.h5"))
        blocks = [pairs_of_block(p, observable, configuration, home / "cache") for p in paths]
        result = calibrate(blocks, observable, configuration, provenance("produce.py"))
        publish(result, observable, home / "guide" / name, overwrite=False)
        print(f"{home.name} {name}: {result.verdict}")
        entries = [block.entry.scan() for block in blocks if block.entry]
        rows = pl.concat(entries).select(ROW_COLUMNS).collect()
        rows.write_csv(home / "guide" / name / "pairs.csv")


def run_apply(home: Path) -> None:
    """Correct energies and, with invented offsets, times of the first block."""
    block = min((home / "blocks").glob("*.h5"))
    folder, made_by = home / "corrected", provenance("produce.py")
    energies = read_coefficients(home / "recommended" / "monitoring.h5")
    offsets = energies.telescopes.with_columns(value=pl.col("tel_id") * 1000.25 - 20_000)
    times = replace(energies, quantity="time", columns=("time",), telescopes=offsets)
    for name, coefficients in {"energy": energies, "time": times}.items():
        output = folder / f"{name}.corrected.h5"
        done = apply_to_block(block, coefficients, output, made_by, home / "cache")
        print(f"{home.name} {name}: {done.status} {done.reason}")
    write_lookup(energies, folder, made_by)


def run(home: Path, name: str, configuration: Configuration) -> None:
    """Calibrate the blocks of an array."""
    paths = sorted((home / "blocks").glob("*.h5"))
    cache = home / "cache"
    blocks = [pairs_of_block(path, ENERGY_INTER, configuration, cache) for path in paths]
    result = calibrate(blocks, ENERGY_INTER, configuration, provenance("produce.py"))
    publish(result, ENERGY_INTER, home / name, overwrite=False)
    print(f"{home.name} {name}: {result.verdict}")
    if name == "peer_selection":
        entries = {block.path: block.entry.scan() for block in blocks if block.entry}
        export(home, entries, configuration)
        pair_summary(result.pairs).write_csv(home / "pair_summary.csv")
    else:
        lacking = result.telescopes.with_columns(
            pl.when(pl.col("tel_id") == LOST_TELESCOPE)
            .then(float("nan"))
            .otherwise(pl.col(column))
            .alias(column)
            for column in ("value", "error")
        )
        publish(
            replace(result, telescopes=lacking), ENERGY_INTER, home / "lacking", overwrite=False
        )


def run_images(home: Path, configuration: Configuration) -> None:
    """Calibrate image sizes with the peer's selection; leave event rows and asymmetries."""
    paths = sorted((home / "blocks").glob("*.h5"))
    blocks = [pairs_of_block(path, IMAGE_INTER, configuration, home / "cache") for path in paths]
    result = calibrate(blocks, IMAGE_INTER, configuration, provenance("produce.py"))
    publish(result, IMAGE_INTER, home / "images", overwrite=False)
    print(f"{home.name} images: {result.verdict}")
    entries = {block.path: block.entry.scan() for block in blocks if block.entry}
    pl.concat(entries.values()).select(ROW_COLUMNS).collect().write_csv(
        home / "images" / "pairs.csv"
    )
    folder = home / "images" / "asymmetries"
    folder.mkdir()
    for path, pairs in entries.items():
        out = folder / f"{path.name.removesuffix('.dl2.h5')}.h5"
        write_asymmetries(pairs, IMAGE_INTER, "hillas_intensity", out, unit="")


def run_cross(home: Path) -> None:
    """Compare the telescope types of an array."""
    configuration = load_configuration(preset="energy-cross")
    paths = sorted((home / "blocks").glob("*.h5"))
    cache = home / "cache"
    blocks = [pairs_of_block(path, ENERGY_CROSS, configuration, cache) for path in paths]
    result = calibrate(blocks, ENERGY_CROSS, configuration, provenance("produce.py"))
    publish(result, ENERGY_CROSS, home / "cross", overwrite=False)
    print(f"{home.name} cross: {result.verdict}")


def export(home: Path, blocks: dict[Path, pl.LazyFrame], configuration: Configuration) -> None:
    """Our event rows, as text and in the peer's format."""
    pl.concat(blocks.values()).select(ROW_COLUMNS).collect().write_csv(home / "pairs.csv")
    (home / "asymmetries").mkdir()
    value = f"{configuration.CalculateAsymmetry.energy_reconstructor}_tel_energy"
    for path, pairs in blocks.items():
        out = home / "asymmetries" / f"{path.name.removesuffix('.dl2.h5')}.h5"
        write_asymmetries(pairs, ENERGY_INTER, value, out, unit="TeV")


def pair_summary(pairs: pl.DataFrame) -> pl.DataFrame:
    """Pair means under the names the peer gives them."""
    return pairs.select(
        "tel_id_1",
        "tel_id_2",
        "n_events",
        "mean_asymmetry",
        "std_asymmetry",
        mean_asymmetry_err="mean_asymmetry_error",
    )


if __name__ == "__main__":
    produce(Path(sys.argv[1]))
