"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[Path, typer.Argument(metavar="RUN", help="The run directory of a fit.")]
MAX_SEED = 2**63 - 1

Output = Annotated[Path, typer.Option("--output", "-o", help="Where to write.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=MAX_SEED, help="Seed of everything random.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]
Device = Annotated[str, typer.Option("--device", help="auto (a GPU if there is one), cpu, cuda, ...")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", help="Threads to compute with; OMP_NUM_THREADS, or all cores, if not given."),
]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="The training .h5ad, for a fit that keeps no users; the run remembers it."),
]
Samples = Annotated[
    int, typer.Option("--samples", help="Draws where a prediction has no closed form; the more, the less its noise.")
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust", help="Run the source of a person's own model or guide that the run holds: look at RUN/source first."
    ),
]
Table = Annotated[Path | None, typer.Option("--output", "-o", help="Write a CSV file as well.")]
