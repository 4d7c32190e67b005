"""`hsvm`: JSON on standard output; exit 0 done, 1 a check failed, 2 bad input with its place on standard error."""

import argparse
import io
import sys
from collections.abc import Sequence

from hsvm_engine.commands import attack, bench, check, host, play, trace
from hsvm_engine.commands.common import BAD_INPUT, DONE, FAILED, INTERRUPTED
from hsvm_engine.core.types import InvariantError

SUBJECTS = (host, attack, play, trace, check, bench)
"""Modules with `add_commands`; each command sets `run`: parsed arguments -> exit code."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hsvm",
        description="Run the simulated H-SVM host: operations, attacks, scenarios, traces, checks and measurements.",
        epilog="example:\n  hsvm matrix --architecture nested hsvm\n\nhsvm COMMAND --help tells the rest.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for subject in SUBJECTS:
        subject.add_commands(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Nothing that a file or a word holds ends in a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        args = build_parser().parse_args(argv)
        code = int(args.run(args))
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        sys.stdout = None  # the reader has gone: nothing is left to say, nor to flush at exit
        return DONE
    except (InvariantError, AssertionError) as broken:
        return _say(f"a rule of the simulator is broken: {broken}", FAILED)
    except OSError as error:
        name = error.filename2 or error.filename
        if name is None:
            sys.stdout = None  # what could not be written now cannot be written at exit either
        return _say(f"{'standard output' if name is None else name}: {error.strerror}", BAD_INPUT)
    except MemoryError:
        return _say("there is not enough memory for what was asked", BAD_INPUT)
    except ValueError as error:
        return _say(str(error), BAD_INPUT)


def _say(reason: str, code: int) -> int:
    text = f"hsvm: {reason}".encode(errors="backslashreplace").decode()  # names of files hold any bytes
    print(text, file=sys.stderr)
    return code
