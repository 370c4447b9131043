"""``arraycal apply``: coefficients applied to blocks, or written as a lookup table."""

import logging
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from arraycal.calib.apply.block import Applied, apply_to_block, column_to_correct
from arraycal.calib.apply.lookup import LOOKUP_FILES, write_lookup
from arraycal.calib.disk.files import refuse_file_in_the_way
from arraycal.calib.dl2.block import open_block
from arraycal.calib.errors import ArraycalError, CannotCompute, WrongUsage
from arraycal.calib.monitoring.correction import refuse_failed_fit
from arraycal.calib.monitoring.read_coefficients import Coefficients, read_coefficients
from arraycal.calib.publish.writing import MONITORING, provenance
from arraycal.config.errors import ConfigurationError
from arraycal.config.settings import Settings, load_settings
from arraycal.flows.jobs.logs import log_file
from arraycal.flows.jobs.path_patterns import CORRECTED_SUFFIX, find_blocks, from_here, inside
from arraycal.flows.terminal.console import stderr, stdout
from arraycal.flows.terminal.outcomes import Exit

__all__ = ["apply", "output_name"]

log = logging.getLogger("arraycal.flows")

#: What is taken from the end of a block's name before ours is added.
BLOCK_SUFFIXES = (".dl2.h5", ".dl2.hdf5", ".h5", ".hdf5")


@dataclass(frozen=True)
class _Request:
    """What is to be done, all paths absolute and allowed."""

    coefficients: Coefficients
    blocks: tuple[Path, ...]
    output: Path
    overwrite: bool


def apply(arguments: Namespace, command: str) -> Exit:
    """Apply coefficients and print what was corrected and what was not.

    Parameters
    ----------
    arguments : Namespace
        Of the command line.
    command : str
        The command line, for the provenance.

    Returns
    -------
    Exit
        ``USABLE`` when every value was corrected, ``DEGRADED`` when a block or a telescope was
        left out, ``UNUSABLE`` when nothing was corrected, ``NOTHING_TO_DO`` without a row.

    Raises
    ------
    ConfigurationError, WrongUsage
        If the command makes no sense.
    ArraycalError
        If the coefficients cannot be used.
    OSError
        If the machine fails.
    """
    settings = load_settings()
    request = _request(arguments, settings)
    made_by = provenance(command)
    if arguments.lookup:
        for path in write_lookup(request.coefficients, request.output, made_by):
            stdout().print(f"{path}", markup=False, soft_wrap=True)
        return Exit.USABLE
    with log_file(request.output, settings.log_level):
        outcomes = []
        for path, output in zip(request.blocks, _outputs(request), strict=True):
            outcome = apply_to_block(
                path, request.coefficients, output, made_by, settings.cache_root
            )
            _say(outcome)
            outcomes.append(outcome)
    _print_summary(request.coefficients, outcomes)
    return _status(outcomes)


def _request(arguments: Namespace, settings: Settings) -> _Request:
    if arguments.lookup and arguments.blocks:
        raise WrongUsage("--lookup writes a table by telescope and reads no block: leave them out.")
    if not arguments.lookup and not arguments.blocks:
        raise WrongUsage("no block is given. Name block files, or write a table with --lookup.")
    data_root, output_root = settings.data_root, settings.output_root
    path = _coefficients_path(arguments.coefficients, settings)
    texts = [from_here(text, data_root) for text in arguments.blocks]
    request = _Request(
        coefficients=read_coefficients(
            path, table=arguments.table, quantity=arguments.quantity, column=arguments.column
        ),
        blocks=find_blocks(texts, data_root) if texts else (),
        output=inside(arguments.output, _resolved(output_root), "output_root"),
        overwrite=arguments.overwrite,
    )
    refuse_failed_fit(request.coefficients)
    if arguments.column and request.blocks:
        _refuse_missing_column(request)
    names = [request.output / name for name in LOOKUP_FILES]
    _refuse_outputs(request, names if arguments.lookup else _outputs(request))
    return request


def _refuse_missing_column(request: _Request) -> None:
    """Refuse a column that was asked for and is in none of the blocks, before anything is written.

    Blocks that cannot be read are reported when their turn comes.
    """
    problem: ArraycalError | None = None
    for path in request.blocks:
        try:
            block = open_block(path)
        except ArraycalError:
            continue
        try:
            column_to_correct(block, request.coefficients)
        except CannotCompute as error:
            problem = error
        else:
            return
    if problem is not None:
        n = len(request.blocks)
        which = (
            f"{request.blocks[0]}:" if n == 1 else f"none of the {n} blocks can be used, the last:"
        )
        raise WrongUsage(f"{which} {problem}")


def _coefficients_path(text: str, settings: Settings) -> Path:
    """Find the coefficients, which may also be an output of ours; a folder stands for its file."""
    text = from_here(text, settings.data_root)
    roots = [("data_root", settings.data_root)]
    if settings.output_root is not None:
        roots.append(("output_root", settings.output_root))
    allowed, refused = [], []
    for name, root in roots:
        try:
            allowed.append(inside(text, _resolved(root), name))
        except ConfigurationError as error:
            refused.append(error)
    if not allowed:
        raise refused[0]
    path = next((path for path in allowed if path.exists()), allowed[0])
    return path / MONITORING if path.is_dir() else path


def _resolved(root: Path | None) -> Path | None:
    return None if root is None else root.resolve()


def _outputs(request: _Request) -> list[Path]:
    return [request.output / output_name(path) for path in request.blocks]


def output_name(block: Path) -> str:
    """Name of the file with the corrected values of a block.

    Examples
    --------
    >>> output_name(Path("night/block_1001.dl2.h5"))
    'block_1001.corrected.h5'
    """
    for suffix in BLOCK_SUFFIXES:
        if block.name.endswith(suffix):
            return block.name.removesuffix(suffix) + CORRECTED_SUFFIX
    return block.name + CORRECTED_SUFFIX


def _refuse_outputs(request: _Request, outputs: Sequence[Path]) -> None:
    """Refuse what would replace something, before the work is done."""
    refuse_file_in_the_way(request.output)
    twice = sorted({path.name for path in outputs if outputs.count(path) > 1})
    if twice:
        raise WrongUsage(
            f"more than one block would become {', '.join(twice)}. Apply to them one by one, with "
            "an --output each."
        )
    inputs = {path.resolve() for path in (request.coefficients.path, *request.blocks)}
    own = [str(path) for path in outputs if path.resolve() in inputs]
    if own:
        raise WrongUsage(f"{', '.join(own)} is an input; inputs are never replaced. Move it away.")
    found = [path.name for path in outputs if path.exists() or path.is_symlink()]
    if found and not request.overwrite:
        raise WrongUsage(
            f"{request.output} already holds {', '.join(found)}. "
            "Choose another --output, or replace them with --overwrite."
        )
    folders = [path.name for path in outputs if path.is_dir()]
    if folders:
        raise WrongUsage(f"{request.output}: {', '.join(folders)} is a folder. Move it away.")


def _say(outcome: Applied) -> None:
    """One line on a block, while the others are under way."""
    if outcome.counts is None:
        text = f"{outcome.path.name}: {outcome.status}: {outcome.reason}"
    else:
        text = f"{outcome.path.name}: ok, {outcome.counts['corrected'].sum():,} rows corrected"
    log.log(logging.INFO if outcome.status == "ok" else logging.WARNING, "%s", text)
    stderr().print(text, markup=False, soft_wrap=True)


def _print_summary(coefficients: Coefficients, outcomes: Sequence[Applied]) -> None:
    console = stdout()
    title = f"{coefficients.quantity} corrected with {coefficients.path.name}"
    table = Table(title=escape(f"{title} ({coefficients.calibration or 'not of arraycal'})"))
    names = ("block", "type", "telescopes", "rows", "corrected", "no value", "not corrected")
    for name in names:
        table.add_column(name, justify="left" if name in names[:2] else "right", overflow="fold")
    table.add_column("why not", overflow="fold")
    for outcome in outcomes:
        for row in _rows(outcome):
            table.add_row(*map(escape, row), style="" if not row[-1] else "yellow")
    console.print(table)
    for outcome in outcomes:
        for remark in outcome.remarks:
            console.print(f"{outcome.path.name}: {remark}", markup=False, soft_wrap=True)
        if outcome.repeated:
            text = f"{outcome.repeated:,} repeated rows are in the output once"
            console.print(f"{outcome.path.name}: {text}", markup=False, soft_wrap=True)
    for outcome in outcomes:
        if outcome.output:
            console.print(f"{outcome.output}", markup=False, soft_wrap=True)


def _rows(outcome: Applied) -> Iterator[tuple[str, ...]]:
    """Lines of the summary: one per telescope type, or one that says why there is none."""
    if outcome.counts is None:
        yield (outcome.path.name, *[""] * 6, f"{outcome.status}: {outcome.reason}")
        return
    for (tel_type,), part in outcome.counts.group_by("tel_type", maintain_order=True):
        left = part.filter(part["uncorrected"] > 0)
        reasons = [
            f"{row['tel_id']}: {row['reason'] or 'no finite result'}"
            for row in left.iter_rows(named=True)
        ]
        numbers = (part[name].sum() for name in ("rows", "corrected", "no_value", "uncorrected"))
        counts = (f"{number:,}" for number in numbers)
        yield outcome.path.name, str(tel_type), f"{len(part)}", *counts, "; ".join(reasons)


def _status(outcomes: Sequence[Applied]) -> Exit:
    if all(outcome.status == "empty" for outcome in outcomes):
        return Exit.NOTHING_TO_DO
    if not sum(o.counts["corrected"].sum() for o in outcomes if o.counts is not None):
        return Exit.UNUSABLE
    whole = all(outcome.complete or outcome.status == "empty" for outcome in outcomes)
    return Exit.USABLE if whole else Exit.DEGRADED
