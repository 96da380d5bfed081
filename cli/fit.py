"""`platewise fit`: a model and a guide to data, into a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import MAX_SEED, Device, Force, Json, Threads

if TYPE_CHECKING:
    from torch import nn

    from ..guides import NormalGuide
    from ..inference import Fitted

MODELS = ("latent-factor",)
GUIDES = ("mean-field", "row-block")
ALGORITHMS = ("svi",)
ESTIMATORS = ("auto", "closed-form", "sampled")
DEFAULTS: dict[str, Any] = {"model": "latent-factor", "guide": "row-block", "algorithm": "svi", "rank": 16}
BYTES_PER_NAME = 64  # of a row or column, with its side columns


def _choice(what: str, names: tuple[str, ...], kind: str) -> str:
    return f"{what}: {', '.join(names)}; {DEFAULTS[kind]} if not given."


def fit(
    data: Annotated[Path | None, typer.Argument(metavar="DATA", help="The .h5ad to fit.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The run directory to make.")] = None,
    model: Annotated[str | None, typer.Option(help=_choice("The model", MODELS, "model"))] = None,
    guide: Annotated[str | None, typer.Option(help=_choice("The variational family", GUIDES, "guide"))] = None,
    algorithm: Annotated[str | None, typer.Option(help=_choice("The algorithm", ALGORITHMS, "algorithm"))] = None,
    rank: Annotated[int | None, typer.Option(help=f"Number of factors; {DEFAULTS['rank']} if not given.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the users; 60 if not given.")] = None,
    batch_rows: Annotated[
        int | None, typer.Option(help="Users per step; a twelfth of the users, 16 to 4096, if not given.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Step size at its peak; 0.5 if not given.")] = None,
    estimator: Annotated[
        str | None,
        typer.Option(help="How the expected log-likelihood is got: auto (the default), closed-form or sampled."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=MAX_SEED, help="Seed of everything random; 0 if not given.")
    ] = None,
    from_disk: Annotated[bool, typer.Option("--from-disk", help="Stream DATA instead of loading it.")] = False,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with an interrupted fit, in place.")] = None,
    device: Device = "auto",
    threads: Threads = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Fit a model and write a run directory, which holds everything that the read-outs need.

    Ctrl-C ends a fit early and saves it as it is; --resume goes on as if it had never stopped.

    Examples:
        platewise fit train.h5ad --rank 16 --seed 0 -o RUN

        platewise fit train.h5ad --guide mean-field --epochs 20 --from-disk -o RUN

        platewise fit --resume RUN
    """
    from .start import start

    start(threads)
    choice = {"model": model, "guide": guide, "algorithm": algorithm, "rank": rank}
    options = {"epochs": epochs, "batch_rows": batch_rows, "learning_rate": learning_rate}
    if resume is not None:
        rest = {"estimator": estimator, "seed": seed, "output": output, "from-disk": from_disk or None}
        _refuse_with_resume(choice | options | rest)
        fitted, run = _go_on(resume, data, device)
    else:
        data, run = _require_paths(data, output, force)
        settings = {"seed": seed or 0, "device": device, **_given(options | {"likelihood": estimator})}
        _check_names(_given({"estimator": estimator}))
        fitted = _begin(DEFAULTS | _given(choice), data, run, from_disk, settings)
        _save(fitted, run, data, from_disk, force)
    _report(fitted, run, json)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _begin(choice: dict[str, Any], data: Path, run: Path, from_disk: bool, settings: dict[str, Any]) -> Fitted:
    """A new fit, once all that can be checked before it is."""
    from .matrix import require_ratings, shape_of

    _check_names(choice)
    shape, rank = shape_of(data), choice["rank"]
    made = (_model(rank), _guide(choice["guide"]))
    _check_rank(rank, shape)
    require_ratings(data, "LatentFactor")
    _require_space(run, sum(shape) * (BYTES_PER_NAME + 3 * 4 * made[1].width(rank + 1)))
    return _fit(*made, data, from_disk, **settings)


def _require_space(run: Path, n_bytes: int) -> None:
    from ..data.writing import require_space

    require_space(run, n_bytes)


def _check_names(choice: dict[str, Any]) -> None:
    from ..data.errors import PlatewiseError

    kinds = {"model": MODELS, "guide": GUIDES, "algorithm": ALGORITHMS, "estimator": ESTIMATORS}
    for kind, known in kinds.items():
        name = choice.get(kind, known[0])
        if name not in known:
            raise PlatewiseError(
                f"Expected --{kind} to be one that this release has ({', '.join(known)}), got {name!r}. Choose one."
            )


def _refuse_with_resume(given: dict[str, Any]) -> None:
    from ..data.errors import PlatewiseError

    for name in (name for name, value in given.items() if value is not None):
        raise PlatewiseError(
            f"Expected --resume with the settings of the interrupted fit, got --{name.replace('_', '-')} as well. "
            "Leave it out, or fit again into another run directory."
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


def _check_rank(rank: int, shape: tuple[int, int]) -> None:
    from ..data.errors import PlatewiseError

    if rank > min(shape):
        raise PlatewiseError(
            f"Expected a rank of at most {min(shape)}, the smaller side of a {shape[0]} x {shape[1]} matrix, got "
            f"{rank}. Choose, say, {min(16, max(min(shape) // 4, 1))}."
        )


def _model(rank: int) -> nn.Module:
    from ..models import LatentFactor

    return LatentFactor(rank)


def _guide(name: str) -> NormalGuide:
    from ..guides import MeanFieldNormal, RowBlockNormal

    return MeanFieldNormal() if name == "mean-field" else RowBlockNormal()


def _fit(model: nn.Module, guide: nn.Module, data: Path, from_disk: bool, **settings: Any) -> Fitted:
    from ..data.storage import read_h5ad
    from ..inference import svi

    return svi.fit(model, guide, data if from_disk else read_h5ad(data), **settings)


def _save(fitted: Fitted, run: Path, data: Path, from_disk: bool, force: bool) -> None:
    from ..inference.run_directory import save

    save(fitted, run, force=force, data=data, from_disk=from_disk)


def _go_on(run: Path, data: Path | None, device: str) -> tuple[Fitted, Path]:
    """Take a fit up where it was interrupted; one that is done is left as it is."""
    from ..inference.run_directory import load, read_config
    from .program import command
    from .training import require_training

    earlier = load(run, device=device)
    if earlier.converged is not False:
        typer.echo(f"{run}: nothing to go on with: {earlier.stopped}", err=True)
        return earlier, run
    config = read_config(run)
    data = require_training(
        data or earlier.data, run, "to go on with the fit", f"`{command('fit')} DATA --resume {run}`"
    )
    _require_space(run, sum(config["files"].values()))
    settings = {"seed": earlier.seed, "device": device, "dtype": earlier.dtype, "resume": earlier}
    fitted = _fit(earlier.model, earlier.guide, data, config["data"]["from_disk"], **settings, **earlier.options)
    _save(fitted, run, data, config["data"]["from_disk"], force=True)
    return fitted, run


def _report(fitted: Fitted, run: Path, as_json: bool) -> None:
    """Say how the fit ended and what to do next.

    Raises:
        typer.Exit: 130 after Ctrl-C, 1 where the fit broke down.
    """
    from .output import print_json
    from .program import command

    last = fitted.history.iloc[-1].to_dict() if len(fitted.history) else {}
    if as_json:
        ends = {"stopped": fitted.stopped, "converged": fitted.converged}
        print_json({"run": str(run), **ends, "elbo": last.get("elbo"), "seconds": last.get("seconds")})
    else:
        typer.echo(_summary(fitted, run, last))
    if fitted.stopped.startswith("interrupted"):
        typer.echo(f"saved as it is; go on with `{command('fit', '--resume', run)}`", err=True)
        raise typer.Exit(130)
    if fitted.converged is False:
        typer.echo(f"error: the fit broke down: {fitted.stopped}. {run} holds the parameters as they were.", err=True)
        raise typer.Exit(1)


def _summary(fitted: Fitted, run: Path, last: dict[Any, Any]) -> str:
    from .program import command

    lines = [f"{run}: {fitted.stopped}"]
    if last:
        n_entries = int(fitted.obs["n_entries"].sum())
        per_entry = f"ELBO {last['elbo']:,.0f} ({last['elbo'] / n_entries:.4f} per entry)"
        lines.append(f"{per_entry} after {last['seconds']:.1f} s of training")
    if fitted.converged is not False:
        lines.append(f"next: {command('evaluate', run)} TEST.h5ad")
    return "\n".join(lines)
