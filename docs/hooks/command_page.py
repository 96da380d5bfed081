"""The page of the command line, from the program itself: what each `--help` says."""

import re
from typing import Any

import typer
from code_pages import Page
from platewise.cli import app


def command_page() -> Page:
    """One section per command: what it is for, its usage, and its options."""
    program: Any = typer.main.get_command(app)
    sections = [_section(name, command) for name, command in program.commands.items()]
    start = (
        "# Command line\n\nWhat `platewise --help`, and the `--help` of each command, say.\n\n    platewise --help\n\n"
    )
    return Page("commands.md", "Command line", start + "\n".join(sections))


def _section(name: str, command: Any) -> str:
    context = command.context_class(command, info_name=f"platewise {name}")
    usage = context.get_usage().removeprefix("Usage: ")
    records = [x.get_help_record(context) for x in command.params]
    options = [_definition(*record) for record in records if record]
    return "\n".join([f"## {name}\n", f"```text\n{usage}\n```\n", f"{_story(command.help)}\n", *options])


def _story(text: str) -> str:
    """The command's help; examples, a line each and indented, in one block."""
    return re.sub(r"(?<=[^\n])\n( +\S)", r"\n\n\1", text.strip())


def _definition(names: str, meaning: str) -> str:
    return f"`{names.strip()}`\n:   {' '.join(meaning.split())}\n"
