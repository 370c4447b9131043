"""From parameters to a job: files found, configuration complete, paths where they may be."""

import glob
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from textwrap import shorten

from calib.criteria import CriterionError, columns_of
from calib.observables import ENERGY_CROSS, ENERGY_INTER, IMAGE_INTER, OBSERVABLES, Observable
from calib.result import Verdict
from calib.store import MONITORING, RESULT, Published
from config.errors import ConfigurationError
from config.loading import available_presets, load_configuration
from config.models import Configuration
from config.settings import Settings
from flows.parameters import AUTOMATIC, NO_PRESET, CalibrateParameters, NightCalibration

__all__ = [
    "CORRECTED_SUFFIX",
    "Job",
    "Outcome",
    "configured",
    "estimator_note",
    "find_blocks",
    "from_here",
    "inside",
    "look_for",
    "matches",
    "prepare",
]

log = logging.getLogger("arraycal.flows")

INTER_CALIBRATIONS = (ENERGY_INTER.name, IMAGE_INTER.name)
#: What is taken from a folder: the first pattern that finds anything.
FOLDER_PATTERNS = (("*.dl2.h5", "*.dl2.hdf5"), ("*.h5", "*.hdf5"))
#: End of the name of a file with the corrected values of a block.
CORRECTED_SUFFIX = ".corrected.h5"
#: Characters of a list of files in a message.
MAX_LISTED = 200
#: Our own products, which may lie in the same folder.
PRODUCTS = ("monitoring.h5", "lookup.h5")


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


def prepare(parameters: CalibrateParameters, settings: Settings) -> Job:
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
    data_root, output_root = _absolute(settings.data_root), _absolute(settings.output_root)
    configuration = configured(parameters, settings)
    if note := estimator_note(parameters, configuration):
        log.info("%s", note)
    return Job(
        observable=observable,
        configuration=configuration,
        blocks=find_blocks(parameters.blocks, data_root),
        output=inside(parameters.output, output_root, "output_root"),
        overwrite=parameters.overwrite or _configured_overwrite(observable, configuration),
        night=parameters.night,
        record=parameters.record == "yes"
        or (parameters.record == AUTOMATIC and settings.database_url is not None),
    )


def configured(
    parameters: CalibrateParameters | NightCalibration, settings: Settings
) -> Configuration:
    """Load the configuration that parameters ask for.

    Raises
    ------
    ConfigurationError
        If it is wrong, or a file leaves the data folder or is not there.
    """
    data_root = _absolute(settings.data_root)
    files = [inside(text, data_root, "data_root") for text in parameters.config]
    overrides = [*parameters.overrides, *_named_files(parameters)]
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


def find_blocks(texts: Iterable[str], root: Path | None = None) -> tuple[Path, ...]:
    """Find the block files.

    Parameters
    ----------
    texts : iterable of str
        Files, folders and patterns. Of a folder, ``*.dl2.h5`` are taken, or all HDF5 files if
        there are none.
    root : Path, optional
        Folder that relative texts start from and that no file may lie outside of, wherever
        symbolic links lead. By default the current folder, and no limit.

    Returns
    -------
    tuple of Path
        Absolute, sorted within each text, without repetitions.

    Raises
    ------
    ConfigurationError
        If nothing is found or something lies outside.
    """
    texts = list(texts)
    found = look_for(texts, root)
    if not any(path.exists() for path in found):
        raise ConfigurationError(
            f"no block file matches {', '.join(texts)}; "
            "expected DL2 files, folders with *.dl2.h5 or *.h5, or patterns such as 'night/*.h5'"
            + _passed_over(texts, root)
        )
    return found


def _passed_over(texts: Iterable[str], root: Path | None) -> str:
    """Say that folders hold our own products only, if they do."""
    places = [inside(text, root, "data_root", pattern=glob.has_magic(text)) for text in texts]
    folders = [place for place in places if place.is_dir()]
    own = sorted(file.name for folder in folders for file in folder.iterdir() if _is_product(file))
    if not own:
        return ""
    return (
        f". Results of a calibration and corrected values (*{CORRECTED_SUFFIX}) are no blocks and "
        f"were left out: {shorten(', '.join(own), MAX_LISTED, placeholder=' ...')}"
    )


def look_for(
    texts: Iterable[str], root: Path | None = None, *, quiet: bool = False
) -> tuple[Path, ...]:
    """Find block files as `find_blocks` does; it is no mistake if there are none."""
    root = _absolute(root)
    found: dict[Path, Path] = {}
    for text in texts:
        paths = _expand(text, root)
        if not paths and not quiet:
            log.warning("no block file matches %s", text)
        for path in paths:
            found.setdefault(path.resolve(), path)
    return tuple(found.values())


def _expand(text: str, root: Path | None) -> list[Path]:
    """Files that a text stands for; a name that does not exist stands for itself."""
    path = inside(text, root, "data_root", pattern=glob.has_magic(text))
    try:
        is_pattern = glob.has_magic(text) and not path.exists()
        found = sorted(matches(path)) if is_pattern else [path]
        files = [file for item in found for file in (_folder(item) if item.is_dir() else [item])]
    except OSError as error:  # a name that is too long, a folder that may not be searched
        raise ConfigurationError(f"cannot look for {text}: {error.strerror}") from None
    return [inside(str(file), root, "data_root") for file in files]


def matches(pattern: Path) -> Iterator[Path]:
    """Files and folders that match a pattern, in no order; ``**`` stands for any folders."""
    # Path.glob takes a relative pattern only, and finds hidden files.
    yield from map(Path, glob.iglob(str(pattern), recursive=True))  # noqa: PTH207


def _folder(folder: Path) -> list[Path]:
    for patterns in FOLDER_PATTERNS:
        files = [
            file
            for pattern in patterns
            for file in folder.glob(pattern)
            if not file.name.startswith(".") and not _is_product(file)
        ]
        if files:
            return sorted(files)
    return []


def _is_product(file: Path) -> bool:
    return file.name in PRODUCTS or file.name.endswith(CORRECTED_SUFFIX)


def _absolute(root: Path | None) -> Path | None:
    return None if root is None else root.resolve()


def from_here(text: str, root: Path | None) -> str:
    """Make a path absolute that means something in the current folder: the shell's tab key did.

    Anything else is left to start from the data folder of the machine.
    """
    here = Path(text).expanduser()
    exists = here.exists() or (glob.has_magic(text) and any(matches(here)))
    return str(here.absolute()) if exists or root is None else text


def inside(text: str, root: Path | None, name: str, *, pattern: bool = False) -> Path:
    """Make a path absolute and, if there is a root, refuse one that leads out of it.

    Of a pattern, only the part before the first wildcard can be followed before the search.
    """
    if "\0" in text:
        raise ConfigurationError(f"{text!r} is no path, it contains a null character")
    if root is None:
        return Path.cwd() / Path(text).expanduser()
    path = root / text
    if pattern and ".." in path.parts:
        raise ConfigurationError(f"{text}: a pattern must not contain '..'")
    if not _followed(path, pattern=pattern).is_relative_to(root):
        raise ConfigurationError(
            f"{text} lies outside {root}, the only folder that this machine allows "
            f"(ARRAYCAL_{name.upper()}); move it there, or have the setting changed"
        )
    return path


def _followed(path: Path, *, pattern: bool) -> Path:
    """Where a path leads when all symbolic links are followed."""
    if pattern:
        fixed = next(n for n, part in enumerate(path.parts) if glob.has_magic(part))
        path = Path(*path.parts[:fixed])
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: links that go round in a circle
        raise ConfigurationError(f"cannot follow {path}: {error}") from None
