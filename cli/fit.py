"""`platewise fit`: a model and a guide to data, into a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .algorithms import ALGORITHMS, ESTIMATORS, OF_THE_GUIDE, OF_WHOLE_ROWS, require_own_options, run, settings_of
from .options import MAX_SEED, Device, Force, Json, Threads
from .rank import AUTO, AUTO_OPTIONS, WIDEST, rank_of, require_prunes
from .resume import go_on, refuse_with_resume

if TYPE_CHECKING:
    from torch import nn

    from ..guides import NormalGuide
    from ..inference import Fitted

MODELS = ("latent-factor",)
GUIDES = ("mean-field", "row-block")
DEFAULTS: dict[str, Any] = {
    "model": "latent-factor",
    "guide": "row-block",
    "algorithm": "coordinate-ascent",
    "rank": "16",
}
BYTES_PER_NAME = 64  # of a row or column, with its side columns


def _choice(what: str, names: tuple[str, ...], kind: str) -> str:
    return f"{what}: {', '.join(names)}; {DEFAULTS[kind]} if not given."


def fit(
    data: Annotated[Path | None, typer.Argument(metavar="DATA", help="The .h5ad to fit: ratings or cells.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The run directory to make.")] = None,
    model: Annotated[str | None, typer.Option(help=_choice("The model", MODELS, "model"))] = None,
    guide: Annotated[str | None, typer.Option(help=_choice("The variational family", GUIDES, "guide"))] = None,
    algorithm: Annotated[str | None, typer.Option(help=_choice("The algorithm", ALGORITHMS, "algorithm"))] = None,
    rank: Annotated[
        str | None,
        typer.Option(
            help=f"Number of factors; {DEFAULTS['rank']} if not given. {AUTO}: as many as the data support, of at most "
            f"{WIDEST} to begin with."
        ),
    ] = None,
    unstored: Annotated[
        str | None,
        typer.Option(
            help="How the model takes entries that are not stored: zero (observed zeros) or missing; as DATA says if "
            "not given. Counts may be taken either way, ratings as missing only."
        ),
    ] = None,
    sweeps: Annotated[
        int | None,
        typer.Option(help="coordinate-ascent: most sweeps; 100 if not given, 300 with --rank auto or zeros."),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="coordinate-ascent: relative change of the bound in a sweep at which it ends; 0.0005 if not given, "
            "0.00001 with --rank auto, 0.000001 with zeros that are not stored."
        ),
    ] = None,
    passes: Annotated[
        int | None, typer.Option(help="natural-gradient: passes over the users; 8 if not given, 50 with --rank auto.")
    ] = None,
    drop_users: Annotated[
        bool,
        typer.Option(
            "--drop-users",
            help="natural-gradient: keep no user's posterior; read-outs compute it anew from the training data.",
        ),
    ] = False,
    epochs: Annotated[int | None, typer.Option(help="svi: passes over the users; 60 if not given.")] = None,
    batch_rows: Annotated[
        int | None,
        typer.Option(
            help="natural-gradient and svi: users per step; if not given, with natural-gradient a sixteenth of the "
            "users, 256 to 32768, with svi a twelfth of the users, 16 to 4096."
        ),
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="svi: step size at its peak; 0.5 if not given.")] = None,
    estimator: Annotated[
        str | None,
        typer.Option(help="svi: how the expected log-likelihood is got: auto (the default), closed-form or sampled."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=MAX_SEED, help="Seed of everything random; 0 if not given.")
    ] = None,
    from_disk: Annotated[
        bool, typer.Option("--from-disk", help="natural-gradient and svi: stream DATA instead of loading it.")
    ] = False,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with an interrupted fit, in place.")] = None,
    device: Device = "auto",
    threads: Threads = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Fit a model and write a run directory, which holds everything that the read-outs need.

    DATA are ratings, or cells by genes, whose zeros are observed. Counts are log-normalised to a total of 10,000 a cell
    first, and so are those that read-outs take later; entries that are normalised already stay as they are.

    coordinate-ascent solves for every user and item in turn, exactly; natural-gradient does so for some users at a
    time, for data that do not fit into memory; svi climbs by noisy gradients, and is for any model.

    Ctrl-C ends a fit early and saves it as it is; --resume goes on as if it had never stopped.

    Examples:
        platewise fit train.h5ad --rank 16 --seed 0 -o RUN

        platewise fit train.h5ad --rank auto -o RUN

        platewise fit cells.h5ad --rank 20 -o RUN

        platewise fit train.h5ad --algorithm svi --guide mean-field --epochs 20 --from-disk -o RUN

        platewise fit --resume RUN
    """
    from .outcome import report
    from .start import start

    start(threads)
    from ..inference.run_directory import save

    kinds = {"model": model, "guide": guide, "algorithm": algorithm}
    choice: dict[str, Any] = {**kinds, "rank": rank, "unstored": unstored}
    options: dict[str, Any] = {
        "sweeps": sweeps,
        "tolerance": tolerance,
        "passes": passes,
        "drop_users": drop_users or None,
        "epochs": epochs,
        "batch_rows": batch_rows,
        "learning_rate": learning_rate,
        "estimator": estimator,
    }
    if resume is not None:
        refuse_with_resume(choice | options | {"seed": seed, "output": output, "from_disk": from_disk or None})
        report(go_on(resume, data, device), resume, json)
        return
    data, made = _require_paths(data, output, force)
    settings = {"seed": seed or 0, "device": device}
    fitted = _begin(DEFAULTS | _given(choice), _given(options), data, made, from_disk, settings)
    save(fitted, made, force=force, data=data, from_disk=from_disk)
    report(fitted, made, json)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _begin(
    choice: dict[str, Any], options: dict[str, Any], data: Path, made: Path, from_disk: bool, settings: dict[str, Any]
) -> Fitted:
    """A new fit, once all that can be checked before it is."""
    from ..data.preparation import prepared
    from ..data.storage import read_h5ad
    from ..data.writing import require_space
    from .matrix import said_by, size_of

    algorithm = choice["algorithm"]
    _check_names(choice | {"estimator": options.get("estimator", "auto")})
    require_own_options(algorithm, options, from_disk)
    if choice["rank"] == AUTO:
        require_prunes(algorithm)
        options = AUTO_OPTIONS[algorithm] | options
    shape, n_entries = size_of(data)
    unstored = choice.get("unstored") or said_by(data)
    if unstored == "zero":
        options = OF_WHOLE_ROWS.get(algorithm, {}) | options
    rank = rank_of(choice["rank"], shape, shape[0] * shape[1] if unstored == "zero" else n_entries)
    made_for = (_model(rank, unstored), _guide(choice["guide"], OF_THE_GUIDE not in options))
    _require_fits(data, unstored, algorithm, from_disk)
    numbers = made_for[1].width(rank + 1) * (shape[0] * made_for[1].hold_rows + shape[1])
    require_space(made, sum(shape) * BYTES_PER_NAME + numbers * 3 * 4)
    taken = data if from_disk else prepared(read_h5ad(data), unstored)
    fitted = run(algorithm, *made_for, taken, **settings | settings_of(options))
    return _said_how_streamed(fitted)


def _said_how_streamed(fitted: Fitted) -> Fitted:
    """A fit that says how its entries were normalised; streamed ones were taken as the file has them."""
    from ..data.normalise import ELSEWHERE, NORMALISED
    from ..data.preparation import is_expression

    if is_expression(fitted.meaning):
        fitted.meaning.setdefault(NORMALISED, ELSEWHERE)
    return fitted


def _require_fits(data: Path, unstored: str, algorithm: str, from_disk: bool) -> None:
    """Check that a file may be taken so, by this algorithm."""
    from ..data.errors import PlatewiseError
    from ..data.preparation import require_takeable
    from .matrix import require_streamable, said_by

    require_takeable(said_by(data), unstored)
    if algorithm == "natural-gradient" and unstored == "zero":
        raise PlatewiseError(
            "Expected entries not stored to be missing for natural-gradient, got observed zeros. Say --algorithm "
            "coordinate-ascent, or svi."
        )
    if from_disk:
        require_streamable(data, unstored)


def _check_names(choice: dict[str, Any]) -> None:
    from ..data.errors import PlatewiseError

    kinds = {"model": MODELS, "guide": GUIDES, "algorithm": ALGORITHMS, "estimator": ESTIMATORS}
    for kind, known in kinds.items():
        if (name := choice[kind]) not in known:
            raise PlatewiseError(
                f"Expected --{kind} to be one that this release has ({', '.join(known)}), got {name!r}. Choose one."
            )


def _require_paths(data: Path | None, output: Path | None, force: bool) -> tuple[Path, Path]:
    """Both paths, checked before a long fit and not after it."""
    from ..data.errors import PlatewiseError
    from ..data.writing import require_free
    from ..inference.run_directory import CONFIG

    if data is None or output is None:
        raise PlatewiseError("Expected an .h5ad and -o RUN, got one missing. Say `platewise fit DATA -o RUN`.")
    require_free(output, force=force, mark=CONFIG)
    return data, output


def _model(rank: int, unstored: str) -> nn.Module:
    from ..models import LatentFactor

    return LatentFactor(rank, unstored=unstored)


def _guide(name: str, hold_rows: bool) -> NormalGuide:
    from ..guides import MeanFieldNormal, RowBlockNormal

    return (MeanFieldNormal if name == "mean-field" else RowBlockNormal)(hold_rows=hold_rows)
