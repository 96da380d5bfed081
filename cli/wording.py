"""The library's messages as said to a person at a command line."""

from __future__ import annotations

import re

_OPTIONS = {
    "exclude_seen=False": "--include-seen",
    "n_samples": "--samples",
    "batch_rows": "--batch-rows",
    "max_epochs": "--max-epochs",
    "until='converged'": "--until converged",
    "until='epochs'": "--until epochs",
    "coordinate_ascent": "--algorithm coordinate-ascent",
    "learning_rate": "--learning-rate",
    "items=": "--item",
    "exclude=": "--exclude",
    "data=": "--data",
    "heldout=": "--test",
    "unstored=": "--unstored",
    "dispersion=": "--dispersion",
    "likelihood='sampled'": "--estimator sampled",
    "by=": "--by",
    "batch=": "--batch",
    "entries=": "--entries",
    "validation=": "--validation",
    "patience=": "--patience",
    "split_entries": "`platewise split`",
}
_ARGUMENT = re.compile(
    rf"(?<!\S)({'|'.join(map(re.escape, _OPTIONS))})(?:\"([\w-]+)\"|(\d+(?:\.\d+)?))?(?![\w/])"  # no part of a path
)
_TEMPORARY = re.compile(r"\.([^/\s]+)\.[0-9a-f]{8}\.part(\.\w+)?")


def at_the_command_line(message: str) -> str:
    """A message with what a person typed, and nothing that the library made up on the way.

    Args:
        message: A message of the library.

    Returns:
        The same in one line, with options (`--by user`) for arguments of Python (`by="user"`), and the names that files
        were to have for those that they had until they were whole.
    """
    message = " ".join(message.split())
    while _TEMPORARY.search(message):
        message = _TEMPORARY.sub(r"\1\2", message)
    return _ARGUMENT.sub(lambda match: " ".join(filter(None, (_OPTIONS[match[1]], match[2], match[3]))), message)
