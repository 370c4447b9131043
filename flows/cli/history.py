"""``arraycal history``: what the history holds, on the terminal, in a file, as a figure."""

import io
import math
from argparse import Namespace
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from arraycal.calib.disk.files import replace_file
from arraycal.calib.errors import NothingToDo
from arraycal.calib.history.database import History, read_history
from arraycal.calib.history.export import (
    EXPORTS,
    FORMATS,
    check_destination,
    export_table,
    exported_coefficients,
)
from arraycal.calib.history.reading import Selection, runs
from arraycal.calib.history.trends import TrendView, view_trends
from arraycal.calib.observables import OBSERVABLES
from arraycal.calib.publish.writing import provenance
from arraycal.calib.trends.trends import flags_in_words, is_clock
from arraycal.config.errors import ConfigurationError
from arraycal.config.loading import load_configuration
from arraycal.config.models import TrendMonitorOptions
from arraycal.config.settings import Settings, load_settings
from arraycal.flows.jobs.path_patterns import inside
from arraycal.flows.jobs.site_settings import Site, find_site
from arraycal.flows.night.find_blocks import night_folder
from arraycal.flows.night.options import checked, read_options
from arraycal.flows.terminal.console import stderr, stdout
from arraycal.flows.terminal.masking import without_secrets
from arraycal.flows.terminal.outcomes import Exit

__all__ = ["show_history"]

FIGURES = (".svg", ".pdf", ".png")
DPI = 150
#: Runs, and nights of a telescope, that are listed without --since.
MOST_ROWS = 20
PERCENT = 100.0


@dataclass(frozen=True)
class _Request:
    """What is to be shown and written; paths are absolute and allowed."""

    selection: Selection
    tel_ids: tuple[int, ...]
    options: TrendMonitorOptions
    url: str
    table: str
    export: Path | None
    figure: Path | None
    nights: Path


def show_history(arguments: Namespace, command: str) -> Exit:
    """Print a part of the history, and write it.

    Parameters
    ----------
    arguments : Namespace
        Of the command line.
    command : str
        The command line, for the provenance.

    Returns
    -------
    Exit
        ``USABLE``.

    Raises
    ------
    ConfigurationError, WrongUsage
        If the command makes no sense.
    NothingToDo
        If the history holds nothing of the selection, or nothing to draw.
    HistoryError
        If there is no history, or it is damaged.
    OSError
        If the machine fails.
    """
    site = find_site()
    request = _request(arguments, load_settings(), site)
    for line in [] if arguments.database else site.history_lines():
        stderr().print(line, markup=False, soft_wrap=True)
    with read_history(request.url) as database:
        shown = without_secrets(command, arguments.database, database.name)
        view = view_trends(database, request.selection, request.options, request.nights)
        if view.runs.is_empty():
            raise NothingToDo(_what_there_is(database))
    view = _only(view, request.tel_ids)
    whole = request.selection.since is not None
    _print(view, stdout(), tel_ids=request.tel_ids, whole=whole)
    if request.export is not None:
        export_table(EXPORTS[request.table](view), request.export, provenance(shown))
        stdout().print(f"{request.export}", markup=False, soft_wrap=True)
    if request.figure is not None:
        _draw(view, request.figure)
        stdout().print(f"{request.figure}", markup=False, soft_wrap=True)
    return Exit.USABLE


def _request(arguments: Namespace, settings: Settings, site: Site) -> _Request:
    name = arguments.calibration
    if name is not None and name not in OBSERVABLES:
        raise ConfigurationError(
            f"there is no calibration {name!r}; expected one of {', '.join(OBSERVABLES)}"
        )
    since, until = arguments.since, arguments.until
    if since is not None and until is not None and since > until:
        raise ConfigurationError(f"--since {since} is after --until {until}: exchange them")
    root = None if settings.output_root is None else settings.output_root.resolve()
    paths: list[Path | None] = []
    for text, suffixes in ((arguments.export, tuple(FORMATS)), (arguments.figure, FIGURES)):
        path = None if text is None else inside(text, root, "output_root")
        if path is not None:
            check_destination(path, suffixes, overwrite=arguments.overwrite)
        paths.append(path)
    configuration = load_configuration(arguments.config, overrides=arguments.overrides)
    return _Request(
        selection=Selection(name, since, until, arguments.configuration),
        tel_ids=tuple(sorted(set(arguments.tel))),
        options=configuration.TrendMonitor,
        url=arguments.database or site.settings.history_url,
        table=arguments.table,
        export=paths[0],
        figure=paths[1],
        nights=_nights_folder(site),
    )


def _nights_folder(site: Site) -> Path:
    """Folder of the folders of the nights on this machine; there may be none yet."""
    options = checked(read_options(site.settings.nightly_options, "ARRAYCAL_NIGHTLY_OPTIONS"))
    return night_folder(date.min, options, site.with_places(None, options.output)).parent


def _what_there_is(database: History) -> str:
    everything = runs(database, Selection())
    if everything.is_empty():
        return f"the history at {database.name} is empty. Record results with `arraycal nightly`."
    nights, names = everything["night"].to_list(), sorted(set(everything["calibration"]))
    return (
        f"no run of the selection is in the history at {database.name}, which holds "
        f"{len(everything)} runs of {min(nights)} to {max(nights)}: {', '.join(names)}"
    )


def _only(view: TrendView, tel_ids: tuple[int, ...]) -> TrendView:
    """The view of chosen telescopes; their trends stand on all of them."""
    if not tel_ids:
        return view
    known = set(view.coefficients["tel_id"])
    missing = [str(tel_id) for tel_id in tel_ids if tel_id not in known]
    if missing:
        there = ", ".join(map(str, sorted(known)))
        raise NothingToDo(
            f"no coefficient of telescope {', '.join(missing)} is in the selection, which has "
            f"{there or 'none'}"
        )
    return view.of(tel_ids)


def _print(view: TrendView, console: Console, *, tel_ids: tuple[int, ...], whole: bool) -> None:
    console.print(_run_table(view, len(view.runs) if whole else MOST_ROWS))
    for remark in view.remarks:
        console.print(remark, markup=False, soft_wrap=True)
    if tel_ids:
        console.print(_coefficients(view, len(view.runs) if whole else MOST_ROWS))
    console.print(_trends(view))
    for row in view.trends.flagged.iter_rows(named=True):
        text = f"{row['calibration']} {row['tel_type']} {row['tel_id']}: {row['reason']}"
        console.print(text, markup=False, soft_wrap=True)


def _run_table(view: TrendView, most: int) -> Table:
    table = Table(title=_title("runs", len(view.runs), most))
    for name in ("night", "calibration", "configuration", "status", "in trends", "published / UTC"):
        table.add_column(name)
    table.add_column("blocks", justify="right")
    for row in view.runs.tail(most).iter_rows(named=True):
        table.add_row(
            str(row["night"]),
            escape(row["calibration"]),
            escape(row["configuration_digest"]),
            row["status"],
            "yes" if row["chosen"] else "no",
            f"{row['published']:%Y-%m-%d %H:%M}",
            str(row["n_blocks"]),
        )
    return table


def _coefficients(view: TrendView, most: int) -> Table:
    rows = exported_coefficients(view).sort(
        "calibration", "tel_type", "tel_id", "night", "published"
    )
    key = ["calibration", "tel_type", "tel_id"]
    shown = rows.group_by(key, maintain_order=True).tail(most)
    table = Table(title=_title("coefficients", len(rows), len(shown)))
    for name in ("calibration", "telescope", "night"):
        table.add_column(name)
    for name in ("coefficient", "relative"):
        table.add_column(name, justify="right")
    for name in ("in trends", "remark"):
        table.add_column(name, overflow="fold")
    for row in shown.iter_rows(named=True):
        unit = f" {row['unit']}" if row["unit"] else ""
        remark = "outlying night" if row["outlier"] else row["reason"]
        table.add_row(
            escape(row["calibration"]),
            escape(f"{row['tel_type']} {row['tel_id']}"),
            str(row["night"]),
            _pair(row["value"], row["error"], 4, unit),
            _pair(row["relative"], row["relative_error"], 4, unit),
            "yes" if row["in_trend"] else "no",
            escape(remark),
        )
    return table


def _trends(view: TrendView) -> Table:
    table = Table(title="trends")
    for name in ("calibration", "telescope"):
        table.add_column(name)
    table.add_column("nights", justify="right")
    for name in ("change per day", "step"):
        table.add_column(name, justify="right")
    for name in ("on", "valid from"):
        table.add_column(name)
    table.add_column("outliers", justify="right")
    table.add_column("flags")
    for row in view.trends.telescopes.iter_rows(named=True):
        scale, unit = (1.0, " ns") if is_clock(row["calibration"]) else (PERCENT, " %")
        table.add_row(
            escape(row["calibration"]),
            escape(f"{row['tel_type']} {row['tel_id']}"),
            str(row["n_nights"]),
            _pair(scale * row["rate"], scale * row["rate_error"], 3, unit, "+"),
            _pair(_scaled(row["step"], scale), _scaled(row["step_error"], scale), 2, unit, "+"),
            str(row["step_night"] or "-"),
            str(row["valid_from"] or "-"),
            str(row["outlier_nights"]),
            flags_in_words(row) or "-",
            style="bold" if row["flags"] else None,
        )
    return table


def _title(name: str, n: int, most: int) -> str:
    return f"{name} (the latest {most} of {n}; --since DATE lists more)" if n > most else name


def _scaled(value: float | None, scale: float) -> float:
    return math.nan if value is None else scale * value


def _pair(value: float, error: float, digits: int, unit: str, sign: str = "") -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:{sign}.{digits}f} ± {error:.{digits}f}{unit}"


def _draw(view: TrendView, path: Path) -> None:
    from matplotlib import rc_context

    from arraycal.calib.figures.style import STYLE
    from arraycal.calib.figures.trend import trend_figure

    drawn = trend_figure(view.trends)
    if drawn is None:
        raise NothingToDo("there is no figure of trends: no telescope has two nights to compare")
    form = path.suffix.lower()[1:]
    stamp = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form)
    buffer = io.BytesIO()
    with rc_context(STYLE):
        drawn.savefig(buffer, format=form, dpi=DPI, metadata=stamp)
    replace_file(path, buffer.getvalue())
