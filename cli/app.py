"""The program `platewise`: its commands, and how errors reach a person.

Nothing heavy is imported before a command runs, so that `platewise --help` answers at once.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Annotated, Any

import typer

from .anomalies import anomalies
from .demo import demo
from .denoise import denoise
from .diagnose import diagnose
from .embed import embed
from .evaluate import evaluate
from .fit import fit
from .fold_in import fold_in
from .generate import generate
from .ingest import ingest
from .new_model import new_model
from .posterior import posterior
from .predict import predict
from .rank_genes import rank_genes
from .recalibrate import recalibrate
from .recommend import recommend
from .report import report
from .simulate import simulate
from .split import split

_USAGE_ERROR: Any = typer.BadParameter.__base__  # typer exports no more of its exceptions
COMMANDS = (
    demo,
    simulate,
    ingest,
    split,
    new_model,
    fit,
    evaluate,
    diagnose,
    report,
    predict,
    recommend,
    fold_in,
    embed,
    denoise,
    generate,
    rank_genes,
    anomalies,
    recalibrate,
    posterior,
)

app = typer.Typer(
    name="platewise",
    help="Probabilistic models of massive sparse matrices: ratings in, calibrated posterior out.",
    epilog="Start with: platewise demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program.

    Args:
        argv: Arguments; those of the process if not given.

    Raises:
        SystemExit: Always: 0 if all went well, 2 for what a person can put right, 130 after Ctrl-C, 1 for a fit that
            broke down, or a fault.
    """
    arguments = None if argv is None else list(argv)
    try:
        code = app(args=arguments, prog_name="platewise", standalone_mode=False)
    except _USAGE_ERROR as error:
        code = _misused(error)
    sys.exit(code if isinstance(code, int) else 0)


def _misused(error: Any) -> int:
    """One line on what the parser refused; the help where nothing was asked for."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return 2
    command = error.ctx.command_path if error.ctx else "platewise"
    return _complain(
        f"error: {error.format_message().rstrip('.')}. `{command} --help` says what there is.", 2
    ).exit_code


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"platewise {version('platewise')}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """The command with one line on standard error, and an exit code, in place of a traceback."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            raise _complain("interrupted: no file was left half written", 130) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except typer.Exit:
            raise
        except Exception as error:
            if "PLATEWISE_TRACEBACK" in os.environ:
                raise
            raise _complain(*_explained(error)) from None

    return run


def _explained(error: Exception) -> tuple[str, int]:
    """What to say of an error, and the exit code."""
    from ..data.errors import PlatewiseError
    from .own_faults import fault_of_own
    from .wording import at_the_command_line

    if isinstance(error, PlatewiseError):
        return f"error: {at_the_command_line(str(error))}", 2
    if (fault := fault_of_own(error)) is not None:
        return f"error: {fault}", 2
    if isinstance(error, OSError):
        return f"error: {at_the_command_line(_of_the_system(error))}", 2
    if isinstance(error, MemoryError):
        return "error: not enough memory. Take a smaller matrix or rank, or --algorithm svi with --from-disk.", 2
    return (
        f"error: {type(error).__name__}: {str(error)[:200]}. This is a fault in Platewise; "
        "PLATEWISE_TRACEBACK=1 shows where.",
        1,
    )


def _of_the_system(error: OSError) -> str:
    where = f": {error.filename}" if error.filename else ""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"Expected a file, got no such file{where}. Check the path."
    if isinstance(error, IsADirectoryError):
        return f"Expected a file, got a folder{where}. Check the path."
    if isinstance(error, PermissionError):
        return f"Expected a path that you may read or write, got one that you may not{where}. Check its permissions."
    return f"Expected to read or write, got: {error.strerror or error}{where}. Is the disk full or read-only?"


def _complain(message: str, code: int) -> typer.Exit:
    typer.secho(" ".join(message.split()), fg="red", err=True)
    return typer.Exit(code)


def _one_line_each(docstring: str) -> str:
    """Paragraphs in one line each, for the width of the screen to wrap; those with indented lines as they stand."""
    paragraphs = inspect.cleandoc(docstring).split("\n\n")
    return "\n\n".join(x if "\n " in x or x.startswith(" ") else " ".join(x.split()) for x in paragraphs)


for _command in COMMANDS:
    app.command(help=_one_line_each(_command.__doc__ or ""))(guarded(_command))
