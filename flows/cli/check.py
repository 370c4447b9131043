"""``arraycal check``: what block files hold, and what can be made of them."""

import re
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import NamedTuple

from rich.console import Console

from arraycal.calib import hdf5
from arraycal.calib.dl2.block import TRIGGER, Block, open_block
from arraycal.calib.errors import ArraycalError, DamagedFile
from arraycal.calib.observables import OBSERVABLES, TIMING_CROSS, Observable
from arraycal.calib.pairs.rules import pair_rules, pairs_to_form
from arraycal.calib.stamps.stamps import check_block
from arraycal.config.errors import ConfigurationError
from arraycal.config.loading import available_presets, load_preset
from arraycal.config.models import Configuration
from arraycal.config.settings import load_settings
from arraycal.flows.jobs.path_patterns import find_blocks
from arraycal.flows.terminal.console import stdout
from arraycal.flows.terminal.outcomes import Exit

__all__ = ["check_blocks"]

#: Ids in a line before it says how many more there are.
MAX_IDS = 20
#: Characters of a reason; lists of all columns are for `run`.
MAX_TEXT = 200
#: What an algorithm's columns end in, and what it gives.
QUANTITIES = {
    "energy": re.compile(r"(.+)_tel_energy$"),
    "impact distance": re.compile(r"(.+)_tel_impact_distance$"),
    "gammaness": re.compile(r"(.+)_tel_prediction$"),
}


def check_blocks(texts: Sequence[str]) -> Exit:
    """Describe block files.

    Parameters
    ----------
    texts : sequence of str
        Files, folders and patterns.

    Returns
    -------
    Exit
        ``USABLE`` when all can be calibrated and none is damaged, ``UNUSABLE`` when none can be,
        else ``DEGRADED``.

    Raises
    ------
    ConfigurationError
        If no file is found.
    """
    console = stdout()
    found = [_check(path, console) for path in find_blocks(texts, load_settings().data_root)]
    if len(found) > 1:
        n = sum(exit_ != Exit.UNUSABLE for exit_ in found)
        console.print(f"{n} of {len(found)} files can be calibrated")
    return found[0] if len(set(found)) == 1 else Exit.DEGRADED


def _check(path: Path, console: Console) -> Exit:
    console.print(f"{path}", style="bold", markup=False, soft_wrap=True)
    try:
        block = open_block(path)
        lines = describe_block(block)
    except ArraycalError as error:
        lines, found = {"unusable": str(error).removeprefix(f"{path}: ")}, Exit.UNUSABLE
    else:
        problems = {name: _problem(block, *item) for name, item in _candidates().items()}
        lines |= {name: problem.text or "can be run" for name, problem in problems.items()}
        runs = not all(problem.text for problem in problems.values())
        damaged = any(problem.damaged for problem in problems.values())
        found = (Exit.DEGRADED if damaged else Exit.USABLE) if runs else Exit.UNUSABLE
    for name, text in lines.items():
        console.print(f"  {name:40}{text}", markup=False, soft_wrap=True)
    console.print()
    return found


def describe_block(block: Block) -> dict[str, str]:
    """Say what a block holds.

    Parameters
    ----------
    block : Block
        The file.

    Returns
    -------
    dict of str to str
        One line by topic.

    Raises
    ------
    CannotCompute
        If a table is damaged.
    """
    rows = _rows(block)
    lines = {
        "data model": f"{block.data_model}, {block.process_type or 'process type not stated'}",
        "obs_id": _ids(block.observations),
        "array": block.subarray.name or "without a name",
    }
    for tel_type in sorted(set(block.subarray.types)):
        members = [
            tel_id
            for tel_id, its in zip(block.subarray.tel_ids, block.subarray.types, strict=True)
            if its == tel_type
        ]
        silent = [tel_id for tel_id in members if tel_id not in rows]
        without = f"; without tables: {_ids(silent)}" if silent else ""
        lines[tel_type] = f"{len(members)} telescopes ({_ids(members)}){without}"
    lines["telescope events"] = f"{sum(rows.values()):,}"
    for quantity, pattern in QUANTITIES.items():
        found = [match[1] for name in block.columns if (match := pattern.match(name))]
        lines[quantity] = ", ".join(found) if found else "no"
    return lines


def _rows(block: Block) -> dict[int, int]:
    """Rows by telescope id of the first DL2 table group."""
    groups = (
        source.group
        for source in block.columns.values()
        if source.scope == "telescope" and source.group.startswith("/dl2")
    )
    group = next(groups, None)
    if group is None:
        return {}
    return _rows_of(block, group)


def _rows_of(block: Block, group: str) -> dict[int, int]:
    """Rows by telescope id of a table group."""
    with hdf5.open_file(block.path) as file:
        tables = hdf5.telescope_tables(file, group, block.path)
        return {tel_id: len(table) for tel_id, table in tables.items()}


def _candidates() -> dict[str, tuple[Observable, str]]:
    """Every calibration with every preset that is made for it."""
    return {
        f"{observable.name}, preset {preset}": (observable, preset)
        for observable in OBSERVABLES.values()
        for preset in available_presets()
        if preset.startswith(observable.name)
    }


class _Problem(NamedTuple):
    """Why a calibration cannot be run, empty if it can; and whether it is damage of the file."""

    text: str = ""
    damaged: bool = False


def _problem(block: Block, observable: Observable, preset: str) -> _Problem:
    configuration = load_preset(preset)
    try:
        if observable is TIMING_CROSS:
            check_block(block, configuration)
            return _Problem(_few_showers(block, configuration))
        rules = pair_rules(observable, configuration, block)
        pairs = pairs_to_form(observable, configuration, block.subarray)
        few = _few_events(block, block.columns[rules.columns[0]].group, configuration)
    except (ArraycalError, ConfigurationError) as error:
        first = str(error).removeprefix(f"{block.path}: ").partition("\n")[0]
        text = shorten(first, MAX_TEXT, placeholder=" ...")
        return _Problem(text, isinstance(error, DamagedFile))
    return _Problem(few if len(pairs) else "no two telescopes may form a pair")


def _few_showers(block: Block, configuration: Configuration) -> str:
    """Say that there are not the showers that an offset needs; empty if there are."""
    needed = configuration.CalculateTimingCalibration.min_events
    with hdf5.open_file(block.path) as file:
        table = hdf5.find_table(file, TRIGGER, block.path)
        found = needed if table is None else len(table)
    if found >= needed:
        return ""
    return f"too few events: {found} showers, {needed} needed (min_events)"


def _few_events(block: Block, group: str, configuration: Configuration) -> str:
    """Say that no two telescopes have the showers that a coefficient needs; empty if some have."""
    needed = configuration.RelativeThroughputFitter.min_events
    rows = sorted(_rows_of(block, group).values(), reverse=True)
    second = rows[1] if len(rows) > 1 else 0
    if second >= needed:
        return ""
    return (
        f"too few events: at most one telescope has the {needed} showers that a coefficient needs "
        f"(min_events); the one with the second most has {second}"
    )


def _ids(ids: Sequence[int]) -> str:
    more = f" and {len(ids) - MAX_IDS} more" if len(ids) > MAX_IDS else ""
    return ", ".join(map(str, ids[:MAX_IDS])) + more
