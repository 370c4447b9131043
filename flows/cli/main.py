"""Command line: ``arraycal run``, ``apply``, ``merge``, ``nightly``, ``report`` and so on.

Nothing heavy is imported before it is known what is wanted.
"""

import argparse
import os
import shlex
import sys
from concurrent.futures import BrokenExecutor

from arraycal.flows.cli.arguments import parse_arguments
from arraycal.flows.terminal.outcomes import REQUESTED, Exit, describe_failure

__all__ = ["main"]

#: Set unless the user has set them; Prefect reads them when it is imported.
PREFECT_DEFAULTS = {
    # A server that starts on a busy machine for the first time needs more than the default 20 s.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # The terminal gets our own messages; the run log of the server keeps everything.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
}


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : list of str, optional
        Arguments without the program's name; by default those of the process.

    Returns
    -------
    int
        Exit status, see ``arraycal run --help``.
    """
    given = sys.argv[1:] if argv is None else argv
    try:
        arguments = parse_arguments(given)
    except SystemExit as stop:  # argparse has said why
        return int(stop.code or 0)
    for name, value in PREFECT_DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        return _guarded(arguments, shlex.join(["arraycal", *given]))
    except BaseException as error:  # polars without memory or threads raises no Exception
        if type(error).__name__ != "PanicException":
            raise
        return _stop(describe_failure(error), Exit.INFRASTRUCTURE)


def _guarded(arguments: argparse.Namespace, line: str) -> int:
    """Turn every failure that can be expected into one message and its exit status."""
    try:
        from arraycal.flows.jobs.logs import escape_last_resort

        escape_last_resort()
        return int(COMMANDS[arguments.command](arguments, line))
    except KeyboardInterrupt:
        return _stop("interrupted; nothing half-written is left.", Exit.INTERRUPTED)
    except Exception as error:
        # Late, but for free: a command that got this far has imported both.
        from arraycal.calib.errors import ArraycalError, NothingToDo, WrongUsage
        from arraycal.config.errors import ConfigurationError

        if isinstance(error, ConfigurationError | WrongUsage):
            return _stop(str(error), Exit.USAGE)
        if isinstance(error, ArraycalError):
            nothing = isinstance(error, NothingToDo)
            text = f"nothing to do: {error}" if nothing else str(error)
            return _stop(text, Exit.NOTHING_TO_DO if nothing else Exit.UNUSABLE)
        if isinstance(error, BrokenPipeError):  # `arraycal ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return Exit.INFRASTRUCTURE
        if isinstance(error, OSError | MemoryError | BrokenExecutor | ImportError):
            is_wrong = isinstance(error, OSError) and error.errno in REQUESTED
            return _stop(describe_failure(error), Exit.USAGE if is_wrong else Exit.INFRASTRUCTURE)
        raise


def _stop(message: str, status: Exit) -> Exit:
    from arraycal.calib.wording import continued

    print(f"arraycal: {continued(message)}", file=sys.stderr)  # noqa: T201  this is the command line
    return status


def _run(arguments: argparse.Namespace, line: str) -> int:
    from arraycal.flows.cli.run import run

    return run(arguments, line)


def _apply(arguments: argparse.Namespace, line: str) -> int:
    from arraycal.flows.cli.apply import apply

    return apply(arguments, line)


def _asymmetry(arguments: argparse.Namespace, line: str) -> int:
    from arraycal.flows.cli.asymmetry import asymmetry

    return asymmetry(arguments, line)


def _merge(arguments: argparse.Namespace, line: str) -> int:
    from arraycal.flows.cli.merge import merge_nights

    return merge_nights(arguments, line)


def _simulate(arguments: argparse.Namespace, _: str) -> int:
    from arraycal.flows.cli.simulate import simulate

    return simulate(arguments)


def _check(arguments: argparse.Namespace, _: str) -> int:
    from arraycal.flows.cli.check import check_blocks

    return check_blocks(arguments.blocks)


def _presets(arguments: argparse.Namespace, _: str) -> int:
    from arraycal.flows.cli.presets import show_preset

    return show_preset(arguments.name)


def _nightly(arguments: argparse.Namespace, line: str) -> int:
    from arraycal.flows.cli.night import nightly_by_hand

    return nightly_by_hand(arguments, line)


def _history(arguments: argparse.Namespace, line: str) -> int:
    from arraycal.flows.cli.history import show_history

    return show_history(arguments, line)


def _report(arguments: argparse.Namespace, _: str) -> int:
    from arraycal.flows.cli.report import report

    return report(arguments)


def _up(arguments: argparse.Namespace, _: str) -> int:
    from arraycal.flows.service.up import up

    return up(arguments.port)


def _down(_arguments: argparse.Namespace, _: str) -> int:
    from arraycal.flows.service.up import down

    return down()


def _status(_arguments: argparse.Namespace, _: str) -> int:
    from arraycal.flows.service.up import status

    return status()


def _register(_arguments: argparse.Namespace, _: str) -> int:
    from arraycal.flows.service.registering import register_at_active_server

    return register_at_active_server()


#: By name, and imported only when wanted.
COMMANDS = {
    "run": _run,
    "apply": _apply,
    "asymmetry": _asymmetry,
    "merge": _merge,
    "nightly": _nightly,
    "report": _report,
    "history": _history,
    "simulate": _simulate,
    "check": _check,
    "presets": _presets,
    "up": _up,
    "down": _down,
    "status": _status,
    "register": _register,
}

if __name__ == "__main__":
    sys.exit(main())
