"""cli: options -> objects -> exit code; the only room that starts anything.

May use every room. Heavy rooms are imported by the command that needs them: `resolve` and `--help` load
neither git nor HTTP. Guarantees: the result on stdout, everything else on stderr; the exit codes of
`errors.ExitCode`; one `error:` line and a `hint:` for a failure, never a traceback. Streams that are closed,
full or not UTF-8 change neither what a command does nor the exit code of what it did.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from reconciler.cli import streams

_NEW_OBJECTS = 50_000
_INTERRUPTED = 130  # errors.ExitCode, which is imported where it is needed


def main() -> None:
    """Run the command `reconcile` and exit."""
    run_and_exit(_run)


def run_and_exit(run: Callable[[], int]) -> NoReturn:
    """Exit with the code of `run`.

    After an interrupt, another one ends the process at once, while it waits for its threads.
    """
    streams.use_utf8_file_names()
    code = guarded(run)
    if code == _INTERRUPTED:
        import signal

        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is signal.default_int_handler:
                signal.signal(number, signal.SIG_DFL)
    gc.freeze()  # at the end of a process, memory is given back as a whole
    sys.exit(code)


def guarded(run: Callable[[], int]) -> int:
    """Call `run` and return its exit code; report what it raises on stderr, never as a traceback."""
    from reconciler.cli.output import say, show_failure
    from reconciler.errors import ExitCode, ReconcilerError

    streams.prepare()
    gc.set_threshold(_NEW_OBJECTS)  # a run keeps most of what it reads, so looking for garbage finds little
    try:
        code = run()
    except ReconcilerError as error:
        code = show_failure(
            error.message, hint=error.hint, where=str(error.where or ""), code=error.exit_code
        )
    except KeyboardInterrupt:
        from reconciler.cli.interrupts import show_interrupted

        code = show_interrupted()
    except BrokenPipeError:  # the reader of stdout closed it, as `| head` does
        streams.discard(sys.stdout)
        code = ExitCode.ERROR
    except OSError as error:
        text = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        code = show_failure(text, code=ExitCode.ERROR)
    except Exception as error:  # noqa: BLE001 - the last place that can report it
        if os.environ.get("RECONCILE_DEBUG"):
            import traceback

            say("".join(traceback.format_exception(error)).rstrip("\n"))
            return int(ExitCode.ERROR)
        code = show_failure(
            f"unexpected {type(error).__name__}: {error}",
            hint="this is a bug in the reconciler: report it with the output of RECONCILE_DEBUG=1",
            code=ExitCode.ERROR,
        )
    return int(code)


def _run() -> int:
    """Run the command in `sys.argv`; the simplest `resolve` without the command-line library."""
    from reconciler.cli.fast_resolve import plain_resolve, show_resolution

    plain = plain_resolve(sys.argv[1:])
    if plain is None:
        return _run_command_line()
    from reconciler.consume.find_index import find_index

    return show_resolution(find_index(plain.directory), plain.ref, as_json=plain.as_json)


def _run_command_line() -> int:
    import typer

    from reconciler.cli.app import app
    from reconciler.cli.output import show_failure
    from reconciler.errors import ExitCode

    try:
        return app(prog_name="reconcile", standalone_mode=False) or ExitCode.OK
    except typer.TyperException as error:
        return show_failure(error.format_message(), hint=_usage_hint(error), code=ExitCode.USAGE)
    except typer.Abort:
        raise KeyboardInterrupt from None


def _usage_hint(error: object) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "reconcile"
    return f"see `{command} --help`"
