"""What the terminal shows of a run: progress on standard error, tables on standard output."""

import math
from typing import TYPE_CHECKING, Any, Self

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.table import Table

from arraycal.calib.dl2.pointing import POINTING
from arraycal.calib.schema import NOTES
from arraycal.calib.wording import continued, printable
from arraycal.flows.jobs.progress import Listener
from arraycal.flows.terminal.truth import TrueValues, compare_with_truth

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import ConsoleOptions, RenderableType

    from arraycal.calib.blocks.stage import BlockPairs
    from arraycal.calib.nights.record import NightRecord
    from arraycal.calib.publish.writing import Published
    from arraycal.calib.result.result import CalibrationResult

__all__ = ["Terminal", "print_result", "stderr", "stdout"]

#: Width of tables that go into a file or a pipe, in characters.
FILE_WIDTH = 160


class SafeConsole(Console):
    """Console on which no text does more than to be read, whoever wrote it."""

    def print(self, *objects: object, **options: Any) -> None:  # noqa: ANN401  those of rich
        """Print; later lines of a text are indented, see `arraycal.calib.wording.continued`."""
        shown = [continued(item) if isinstance(item, str) else item for item in objects]
        super().print(*shown, **options)

    def render(
        self, renderable: "RenderableType", options: "ConsoleOptions | None" = None
    ) -> "Iterator[Segment]":
        """Render; what is no control of the console's own becomes printable."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)


def _console(*, stderr: bool) -> Console:
    console = SafeConsole(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    return console


def stdout() -> Console:
    """Console on standard output; wide tables when it is no terminal."""
    return _console(stderr=False)


def stderr() -> Console:
    """Console on standard error."""
    return _console(stderr=True)


class Terminal(Listener):
    """Shows a bar when standard error is a terminal, one line per block otherwise."""

    def __init__(self, command: str, workers: int) -> None:
        self.command = command
        self.workers = workers
        self.result: CalibrationResult | None = None
        self.published: Published | None = None
        self.nights: Sequence[NightRecord] = ()
        self.unrecorded = ""
        self._console = stderr()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("blocks", total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(text, markup=False, soft_wrap=True)

    def started(self, n_blocks: int) -> None:
        """Learn how many blocks there are."""
        self._progress.update(self._task, total=n_blocks)

    def block_done(self, block: "BlockPairs") -> None:
        """Print one line on a block."""
        self.say(describe_block(block))
        self._progress.advance(self._task)

    def remark(self, text: str) -> None:
        """Print it among the blocks."""
        self.say(text)

    def solving(self) -> None:
        """Say that the bar is complete and why nothing moves."""
        self._progress.update(self._task, description="solving")

    def stopping(self) -> None:
        """Say why it takes a moment."""
        self.say("interrupted; waiting for the blocks under way")

    def not_recorded(self, reason: str) -> None:
        """Keep the reason for the end."""
        self.unrecorded = reason

    def nights_finished(self, records: "Sequence[NightRecord]") -> None:
        """Keep the verdicts for the tables."""
        self.nights = records

    def finished(self, result: "CalibrationResult", published: "Published") -> None:
        """Keep the result for the tables."""
        self.result, self.published = result, published
        self._progress.update(self._task, description="done")


def describe_block(block: "BlockPairs") -> str:
    """One line on a block."""
    if block.status != "ok":
        reason = block.reason.removeprefix(f"{block.path}: ")
        return f"{block.path.name}: {block.status}: {reason}"
    source = ", from the cache" if block.cached else ""
    return (
        f"{block.path.name}: ok, {block.n_events:,} telescope events, "
        f"{block.n_pairs:,} {'stamps in use' if _has_stamps(block) else 'pair rows'}{source}"
    )


def _has_stamps(block: "BlockPairs") -> bool:
    return block.entry is not None and "process_type" in block.entry.summary


def print_result(
    console: Console,
    result: "CalibrationResult",
    published: "Published",
    truth: TrueValues | None = None,
) -> None:
    """Print the tables of a result, its verdict, and where its files are.

    Parameters
    ----------
    console : Console
        Where to.
    result : CalibrationResult
        What was found.
    published : Published
        Where it is.
    truth : TrueValues, optional
        Shown beside the coefficients.
    """
    console.print(coefficient_table(result, truth))
    if "types" in result.extras:
        console.print(_type_table(result.extras["types"]))
    if len(result.rejected):
        console.print(_table("rejected rows by rule", result.rejected))
    console.print(_block_table(result.blocks, result.quantity.rows))
    if "unconstrained" in result.fit:
        console.print(f"\nunconstrained: {result.fit['unconstrained']}", markup=False)
    for line in _notes(result):
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"\n{result.verdict}", style=_style(result.verdict.status), markup=False)
    if result.verdict.untested:
        console.print(f"not tested: {'; '.join(result.verdict.untested)}", markup=False)
    for name, path in (
        ("report", published.report),
        ("tables", published.monitoring),
        ("numbers", published.result),
    ):
        console.print(f"{name:8}{path}", markup=False, soft_wrap=True)


def _notes(result: "CalibrationResult") -> list[str]:
    """What was different in a block than one might expect, one line for each topic."""
    notes = result.extras.get(NOTES)
    if notes is None:
        return []
    lines = []
    unexpected = notes.filter(pl.col("topic") != POINTING)
    for (topic,), own in unexpected.group_by("topic", maintain_order=True):
        where = f"{own['path'].n_unique()} of {len(result.blocks)} blocks"
        more = " (others in the table block_notes)" if own["note"].n_unique() > 1 else ""
        lines.append(f"note: {topic}, {where}: {own['note'][0]}{more}")
    return lines


def _dates(result: "CalibrationResult") -> dict[int, float]:
    """Dates for which values hold that change with time: those of the newest intervals."""
    intervals = result.extras.get("intervals")
    if intervals is None:
        return {}
    newest = intervals.sort("start_s").group_by("tel_id").last()
    return dict(newest.select("tel_id", "reference_s").iter_rows())


def coefficient_table(result: "CalibrationResult", truth: TrueValues | None) -> Table:
    """Coefficients by telescope, with the truth if it is known."""
    gauge = str(result.fit.get("gauge", "")).replace("_", " ")
    table = Table(title=f"{result.calibration}: {_what(result)}, gauge {gauge}")
    telescopes, digits = result.telescopes, result.quantity.digits
    known: list[str] = []
    names = ["telescope", "value", "± error", "systematic", "showers", "flag", "reason"]
    if truth is not None:
        # A cross-calibration also measures the ratio of the types.
        telescopes = compare_with_truth(
            telescopes, truth, within_types="types" not in result.extras, dates=_dates(result)
        )
        known = ["truth", *["difference"] * truth.additive, "pull"]
        names[4:4] = known
    for name in names:
        table.add_column(name, justify=_justify(name), overflow="fold")
    for row in telescopes.iter_rows(named=True):
        table.add_row(
            escape(f"{row['tel_type']} {row['tel_id']}"),
            *(_number(row[name], digits) for name in ("value", "error", "systematic")),
            *(_number(row[name], 2 if name == "pull" else digits) for name in known),
            f"{row['n_events']:,}",
            row["flag"],
            escape(row["reason"]),
            style="" if row["flag"] == "ok" else "yellow",
        )
    return table


def _what(result: "CalibrationResult") -> str:
    if result.quantity.unit:
        return f"{result.quantity.name} in {result.quantity.unit}"
    return "relative throughput"


def _type_table(types: pl.DataFrame) -> Table:
    """Scaling factors and contrasts of a cross-calibration."""
    table = Table(title=f"telescope types relative to {types['tel_ref'][0]}")
    for name in ("type", "own gauge", "telescopes", "factor", "± error", "systematic"):
        table.add_column(name, justify="left" if name in {"type", "own gauge"} else "right")
    for name in ("ln contrast", "± error", "reason"):
        table.add_column(name, justify="left" if name == "reason" else "right", overflow="fold")
    for row in types.iter_rows(named=True):
        table.add_row(
            escape(row["tel_type"]),
            row["gauge"].replace("_", " "),
            str(row["n_telescopes"]),
            *(_number(row[name]) for name in ("scaling_factor", "error", "systematic")),
            *(_number(row[name]) for name in ("contrast", "contrast_error")),
            escape(row["reason"]),
            style="yellow" if row["reason"] else "",
        )
    return table


def _block_table(blocks: pl.DataFrame, rows: str) -> Table:
    shown = blocks.select(
        pl.col("path").str.split("/").list.last().alias("block"),
        "status",
        pl.col("obs_ids").alias("obs_id"),
        pl.col("n_events").alias("telescope events"),
        pl.col("n_pairs").alias(rows),
        "cached",
        "reason",
    )
    return _table("blocks", shown)


def _table(title: str, frame: pl.DataFrame) -> Table:
    table = Table(title=title)
    for name, dtype in frame.schema.items():
        table.add_column(name, justify="right" if dtype.is_numeric() else "left", overflow="fold")
    for row in frame.iter_rows():
        table.add_row(*(_cell(value) for value in row))
    return table


def _cell(value: Any) -> str:  # noqa: ANN401  whatever a table holds
    if isinstance(value, bool):
        return "yes" if value else "no"
    # Paths and reasons may contain what rich takes for markup.
    return f"{value:,}" if isinstance(value, int) else escape(str(value))


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _justify(name: str) -> Any:  # noqa: ANN401  a literal type of rich
    return "left" if name in {"telescope", "flag", "reason"} else "right"


def _style(status: str) -> str:
    return {"usable": "bold green", "degraded": "bold yellow"}.get(status, "bold red")
