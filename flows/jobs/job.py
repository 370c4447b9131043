"""From parameters to a job: configuration complete, paths where they may be."""

import json
import logging
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from arraycal.calib.criteria import CriterionError, columns_of
from arraycal.calib.dl2.products import product_in
from arraycal.calib.observables import (
    ENERGY_CROSS,
    ENERGY_INTER,
    IMAGE_INTER,
    OBSERVABLES,
    Observable,
)
from arraycal.calib.publish.writing import MONITORING, RESULT, Published
from arraycal.calib.result.result import Verdict
from arraycal.config.errors import ConfigurationError
from arraycal.config.loading import available_presets, load_configuration
from arraycal.config.models import Configuration
from arraycal.config.settings import Settings
from arraycal.flows.jobs.outputs import output_folder
from arraycal.flows.jobs.parameters import (
    AUTOMATIC,
    NO_PRESET,
    CalibrateParameters,
    NightCalibration,
)
from arraycal.flows.jobs.path_patterns import (
    CORRECTED_SUFFIX,
    absolute,
    find_blocks,
    from_here,
    inside,
    matches,
)

__all__ = [
    "CORRECTED_SUFFIX",
    "Job",
    "Outcome",
    "configured",
    "estimator_note",
    "find_blocks",
    "from_here",
    "inside",
    "matches",
    "prepare_job",
]

log = logging.getLogger("arraycal.flows")

INTER_CALIBRATIONS = (ENERGY_INTER.name, IMAGE_INTER.name)


@dataclass(frozen=True)
class Job:
    """A calibration that can start.

    Parameters
    ----------
    observable : Observable
        The calibration.
    configuration : Configuration
        All options.
    blocks : tuple of Path
        Absolute, without repetitions. A named file that does not exist is among them: it
        becomes a failed block.
    output : Path
        Absolute folder of the results.
    overwrite : bool
        Whether results in it may be replaced.
    night : date or None
        Date of the evening; by default the history finds it in the observations.
    record : bool
        Whether the history gets the result.
    """

    observable: Observable
    configuration: Configuration
    blocks: tuple[Path, ...]
    output: Path
    overwrite: bool
    night: date | None = None
    record: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Parameters
    ----------
    verdict : Verdict
        Whether the result may be used, and why not.
    published : Published
        Where it is.
    unrecorded : str
        Why the history did not take it; empty if it did, or was not to.
    outliers : tuple of str
        Telescopes that stand out from their siblings, as ``MST 7``.
    """

    verdict: Verdict
    published: Published
    unrecorded: str = ""
    outliers: tuple[str, ...] = ()


def prepare_job(parameters: CalibrateParameters, settings: Settings) -> Job:
    """Resolve the parameters on this machine.

    Parameters
    ----------
    parameters : CalibrateParameters
        What was asked for.
    settings : Settings
        Where relative paths start. If a root is set, everything must lie inside it.

    Returns
    -------
    Job
        What to do.

    Raises
    ------
    ConfigurationError
        If the configuration is wrong, no block is found, or a path leaves its root.
    """
    observable = OBSERVABLES[parameters.calibration]
    data_root = absolute(settings.data_root)
    configuration = configured(parameters, settings)
    if note := estimator_note(parameters, configuration):
        log.info("%s", note)
    return Job(
        observable=observable,
        configuration=configuration,
        blocks=_without_products(find_blocks(parameters.blocks, data_root), configuration),
        output=output_folder(parameters.output, settings),
        overwrite=parameters.overwrite or _configured_overwrite(observable, configuration),
        night=parameters.night,
        record=parameters.record == "yes"
        or (parameters.record == AUTOMATIC and settings.database_url is not None),
    )


def _without_products(paths: tuple[Path, ...], configuration: Configuration) -> tuple[Path, ...]:
    """Leave out files that are none of the blocks: named for something else, or made of blocks.

    Raises
    ------
    ConfigurationError
        If none is left.
    """
    cross = configuration.CalculateCrossCalibration
    options = {
        "inter_calibration": cross.inter_calibration,
        "simulation_reference": cross.simulation_reference,
        "compare": configuration.CalculateInterCalibration.compare,
    }
    named = {Path(text).resolve(): key for key, text in options.items() if text is not None}
    left_out = {}
    for path in paths:
        key = named.get(path.resolve())
        reason = f"the file that {key} names" if key else product_in(path)
        if reason:
            left_out[path] = reason
            log.warning("%s is left out: it is %s, no block", path, reason)
    blocks = tuple(path for path in paths if path not in left_out)
    if not blocks:
        path, reason = next(iter(left_out.items()))
        more = f" (and {len(left_out) - 1} more files are none either)" if len(left_out) > 1 else ""
        raise ConfigurationError(
            f"{path}: expected a block of DL2 events, found {reason}{more}. Give the blocks that "
            "it was made from; arraycal apply takes results."
        )
    return blocks


def configured(
    parameters: CalibrateParameters | NightCalibration, settings: Settings
) -> Configuration:
    """Load the configuration that parameters ask for.

    Raises
    ------
    ConfigurationError
        If it is wrong, or a file leaves the data folder or is not there.
    """
    data_root = absolute(settings.data_root)
    files = [inside(text, data_root, "data_root") for text in parameters.config]
    # A file for one of the methods asks for it; what is set by name is stronger, and refused.
    implied = [] if parameters.inter is None else ["CalculateCrossCalibration.method=three_step"]
    overrides = [*implied, *parameters.overrides, *_named_files(parameters)]
    configuration = load_configuration(files, preset=_preset(parameters), overrides=overrides)
    configuration = _with_absolute_files(configuration, data_root)
    _check_inter(parameters.calibration, configuration)
    _refuse_malformed_criteria(configuration)
    return configuration


def estimator_note(parameters: CalibrateParameters, configuration: Configuration) -> str:
    """Say which estimator runs when configuration files leave it open and no preset decides.

    Files of ctao-calibpipe are read unchanged, but name no estimator: it has only one.
    """
    fitter = configuration.RelativeThroughputFitter
    peer = f"{parameters.calibration}-peer"
    decided = _preset(parameters) is not None or "estimator" in fitter.model_fields_set
    if decided or not parameters.config or peer not in available_presets():
        return ""
    return (
        f"the configuration files name no estimator: estimator {fitter.estimator} and our other "
        f"defaults are used; for the numbers of ctao-calibpipe add --preset {peer}"
    )


def _named_files(parameters: CalibrateParameters | NightCalibration) -> list[str]:
    """Files with a parameter of their own, as the settings they are."""
    named = {
        "inter_calibration": parameters.inter,
        "simulation_reference": parameters.simulation_reference,
    }
    given = [key for key, text in named.items() if text is not None]
    if given and parameters.calibration != ENERGY_CROSS.name:
        raise ConfigurationError(
            f"{' and '.join(given)} is for {ENERGY_CROSS.name}; {parameters.calibration} has no "
            "use for it"
        )
    texts = [
        f"CalculateCrossCalibration.{key}={json.dumps(text)}"
        for key, text in named.items()
        if text is not None
    ]
    if parameters.compare is not None:
        texts.append(f"CalculateInterCalibration.compare={json.dumps(parameters.compare)}")
    return texts


def _with_absolute_files(configuration: Configuration, root: Path | None) -> Configuration:
    """Make the files that the configuration names absolute; they must exist."""
    section = configuration.CalculateCrossCalibration
    found = {
        key: str(_named_file(key, text, root))
        for key in ("inter_calibration", "simulation_reference")
        if (text := getattr(section, key)) is not None
    }
    changed = section.model_copy(update=found)
    inter = configuration.CalculateInterCalibration
    if inter.compare is not None:
        path = _named_file("compare", inter.compare, root)
        inter = inter.model_copy(update={"compare": str(path)})
    return configuration.model_copy(
        update={"CalculateCrossCalibration": changed, "CalculateInterCalibration": inter}
    )


#: Files that settings name: the one of a folder with results, and of which calibration.
RESULT_FILES = {
    "inter_calibration": (MONITORING, "of energy-inter, or one of ctao-calibpipe"),
    "simulation_reference": (RESULT, "of an energy-cross of simulated blocks"),
    "compare": (RESULT, "of energy-inter or energy-cross"),
}


def _named_file(key: str, text: str, root: Path | None) -> Path:
    """Find the result that a file or the folder with it stands for."""
    name, origin = RESULT_FILES[key]
    path = inside(text, root, "data_root")
    if path.is_dir():
        path = inside(str(path / name), root, "data_root")
    if not path.is_file():
        raise ConfigurationError(
            f"{key}: there is no file {path}; expected the {name} {origin}, or the folder that "
            "holds it"
        )
    return path


def _check_inter(calibration: str, configuration: Configuration) -> None:
    """Look at the options of an inter-calibration that only make sense for some."""
    section, label = configuration.CalculateInterCalibration, OBSERVABLES[calibration].label
    if section.compare is not None and calibration != IMAGE_INTER.name:
        raise ConfigurationError(
            f"compare is for {IMAGE_INTER.name}, which compares its coefficients with those of "
            f"energies; {calibration} has nothing to compare"
        )
    if configuration.ShowerSelection.ceiling == "auto" and calibration != IMAGE_INTER.name:
        raise ConfigurationError(
            f"ShowerSelection.ceiling: auto is for {IMAGE_INTER.name}, which finds saturated "
            f"images; give {calibration} a number or null"
        )
    is_inter = calibration in INTER_CALIBRATIONS
    if (
        is_inter
        and "asymmetry_label" in section.model_fields_set
        and section.asymmetry_label != label
    ):
        # No mistake: one file of ctao-calibpipe may serve several of our calibrations.
        log.warning(
            "CalculateInterCalibration.asymmetry_label is %s; %s compares by %s all the same",
            section.asymmetry_label, calibration, label,
        )  # fmt: skip


def _refuse_malformed_criteria(configuration: Configuration) -> None:
    """Refuse at once what no block could make sense of; columns are up to the blocks."""
    for name, text in configuration.QualityQuery.quality_criteria:
        try:
            columns_of(text)
        except CriterionError as error:
            raise ConfigurationError(f"quality criterion {name!r}: {error}") from None


def _preset(parameters: CalibrateParameters | NightCalibration) -> str | None:
    if parameters.preset == NO_PRESET:
        return None
    if parameters.preset == AUTOMATIC:
        return None if parameters.config else parameters.calibration
    if not parameters.preset.startswith(parameters.calibration):
        raise ConfigurationError(
            f"preset {parameters.preset} is not made for {parameters.calibration}; choose "
            f"{' or '.join(n for n in available_presets() if n.startswith(parameters.calibration))}"
        )
    return parameters.preset


def _configured_overwrite(observable: Observable, configuration: Configuration) -> bool:
    """Whether the YAML files allow it, in either of the peer's two steps that are one here."""
    section = getattr(configuration, observable.section)
    return bool(section.overwrite or configuration.CalculateInterCalibration.overwrite)
