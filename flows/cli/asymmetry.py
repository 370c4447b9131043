"""``arraycal asymmetry``: the event-wise asymmetries of blocks as a file of ctao-calibpipe."""

from argparse import Namespace
from dataclasses import replace

import polars as pl
from pydantic import ValidationError
from rich.markup import escape
from rich.table import Table

from arraycal.calib.blocks.stage import usable_blocks
from arraycal.calib.disk.files import refuse_file_in_the_way
from arraycal.calib.errors import NothingToDo, WrongUsage
from arraycal.calib.pairs.exchange import write_asymmetries
from arraycal.calib.pairs.rules import forming_pairs, reconstructors
from arraycal.config.errors import ConfigurationError
from arraycal.config.settings import Settings, load_settings
from arraycal.flows.jobs.direct import make_pairs
from arraycal.flows.jobs.job import Job, prepare_job
from arraycal.flows.jobs.parameters import CalibrateParameters
from arraycal.flows.jobs.path_patterns import from_here
from arraycal.flows.terminal.console import Terminal, stdout
from arraycal.flows.terminal.outcomes import Exit

__all__ = ["asymmetry"]


def asymmetry(arguments: Namespace, command: str) -> Exit:
    """Write asymmetries and print a summary of them.

    Parameters
    ----------
    arguments : Namespace
        Of the command line.
    command : str
        The command line.

    Returns
    -------
    Exit
        ``USABLE`` when all blocks are in the file, else ``DEGRADED``.

    Raises
    ------
    ConfigurationError, WrongUsage
        If the command makes no sense.
    CannotCompute
        If no block can be used.
    NothingToDo
        If there is no pair.
    OSError
        If the machine fails.
    """
    settings = load_settings()
    job = _job(arguments, settings)
    _refuse_output(job)
    with Terminal(command, arguments.workers) as terminal:
        outcomes = make_pairs(job, settings, terminal)
    blocks, _, tables = usable_blocks(outcomes)
    pairs = pl.concat([block.entry.scan() for block in blocks if block.entry]).collect()
    if pairs.is_empty():
        lost = [f"{rule}: {n:,}" for _, rule, n, _ in tables["rejected"].iter_rows() if n]
        raise NothingToDo(f"no pair of telescopes is left ({'; '.join(lost) or 'no rows'}).")
    _write(pairs, job)
    _print_summary(pairs, tables["rejected"])
    left_out = tables["blocks"].filter(pl.col("status") != "ok")
    for reason in left_out["reason"]:
        stdout().print(f"left out: {reason}", markup=False, soft_wrap=True)
    stdout().print(f"{job.output}", markup=False, soft_wrap=True)
    return Exit.DEGRADED if len(left_out) else Exit.USABLE


def _job(arguments: Namespace, settings: Settings) -> Job:
    """What is to be done, all paths absolute and allowed."""
    try:
        parameters = CalibrateParameters(
            calibration=arguments.calibration,
            blocks=[from_here(text, settings.data_root) for text in arguments.blocks],
            output=arguments.output,
            preset=arguments.preset,
            config=[from_here(text, settings.data_root) for text in arguments.config],
            overrides=arguments.overrides,
            overwrite=arguments.overwrite,
        )
    except ValidationError as error:
        problems = "; ".join(item["msg"].removeprefix("Value error, ") for item in error.errors())
        raise ConfigurationError(problems) from None
    job = prepare_job(parameters, settings)
    return replace(job, configuration=forming_pairs(job.configuration))


def _refuse_output(job: Job) -> None:
    """Refuse what would replace something, before the work is done."""
    refuse_file_in_the_way(job.output.parent)
    if job.output.is_dir():
        raise WrongUsage(f"{job.output} is a folder; expected the name of a file, as FILE.h5.")
    if job.output.resolve() in {path.resolve() for path in job.blocks}:
        raise WrongUsage(f"{job.output} is an input; inputs are never replaced. Choose another.")
    if job.output.exists() and not job.overwrite:
        raise WrongUsage(
            f"{job.output} exists. Choose another --output, or replace it with --overwrite."
        )


def _write(pairs: pl.DataFrame, job: Job) -> None:
    section = getattr(job.configuration, job.observable.section)
    column = job.observable.value.format(**reconstructors(section))
    job.output.parent.mkdir(parents=True, exist_ok=True)
    write_asymmetries(pairs, job.observable, column, job.output, unit=job.observable.unit)


def _print_summary(pairs: pl.DataFrame, rejected: pl.DataFrame) -> None:
    """One line for each type, and what was left out."""
    table = Table(title="asymmetry (v1 - v2) / (v1 + v2)")
    for name in ("type", "observations", "showers", "telescope pairs", "rows", "mean", "rms"):
        table.add_column(name, justify="left" if name == "type" else "right")
    of_type = pairs.group_by("tel_type").agg(
        pl.col("obs_id").n_unique(),
        pl.struct("obs_id", "event_id").n_unique().alias("showers"),
        pl.struct("tel_id_1", "tel_id_2").n_unique().alias("telescope pairs"),
        pl.len().alias("rows"),
        pl.col("asymmetry").mean().alias("mean"),
        (pl.col("asymmetry") ** 2).mean().sqrt().alias("rms"),
    )
    for name, *counts, mean, rms in of_type.sort("tel_type").iter_rows():
        table.add_row(escape(name), *(f"{n:,}" for n in counts), f"{mean:+.4f}", f"{rms:.4f}")
    stdout().print(table)
    for level, rule, rows, _ in rejected.filter(pl.col("rows") > 0).iter_rows():
        stdout().print(f"left out, {level}: {rule}: {rows:,}", markup=False, soft_wrap=True)
