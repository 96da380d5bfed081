"""`platewise fit`: a model and a guide to data, into a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Device, Force, Json, Threads

if TYPE_CHECKING:
    from torch import nn

    from ..inference import Fitted

MODELS = ("latent-factor",)
GUIDES = ("mean-field", "row-block")
ALGORITHMS = ("svi",)


def fit(
    data: Annotated[Path | None, typer.Argument(metavar="DATA", help="The .h5ad to fit.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The run directory to make.")] = None,
    model: Annotated[str, typer.Option(help=f"The model: {', '.join(MODELS)}.")] = "latent-factor",
    guide: Annotated[str, typer.Option(help=f"The variational family: {', '.join(GUIDES)}.")] = "row-block",
    algorithm: Annotated[str, typer.Option(help=f"The algorithm: {', '.join(ALGORITHMS)}.")] = "svi",
    rank: Annotated[int, typer.Option(help="Number of factors.")] = 16,
    epochs: Annotated[int | None, typer.Option(help="Passes over the users.")] = None,
    batch_rows: Annotated[int | None, typer.Option(help="Users per step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Step size at its peak.")] = None,
    likelihood: Annotated[str | None, typer.Option(help="closed-form, sampled, or auto.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random; 0 if not given.")] = None,
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
    options = {"epochs": epochs, "batch_rows": batch_rows, "learning_rate": learning_rate, "likelihood": likelihood}
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if resume is not None:
        _refuse_with_resume({**given, "seed": seed, "output": output, "from-disk": from_disk or None})
        fitted, run = _go_on(resume, data, device)
    else:
        names = {"model": (model, MODELS), "guide": (guide, GUIDES), "algorithm": (algorithm, ALGORITHMS)}
        _check_names(names)
        data, run = _require_paths(data, output, force)
        _check_rank(rank, data)
        made = (_model(rank), _guide(guide))
        fitted = _fit(*made, data, from_disk, seed=seed or 0, device=device, **given)
        _save(fitted, run, data, from_disk, force)
    _report(fitted, run, json)


def _check_names(names: dict[str, tuple[str, tuple[str, ...]]]) -> None:
    from ..data.errors import PlatewiseError

    for kind, (name, known) in names.items():
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


def _check_rank(rank: int, data: Path) -> None:
    from ..data.errors import PlatewiseError
    from .matrix import shape_of

    shape = shape_of(data)
    if rank > min(shape):
        raise PlatewiseError(
            f"Expected a rank of at most {min(shape)}, the smaller side of a {shape[0]} x {shape[1]} matrix, got "
            f"{rank}. Choose, say, {min(16, max(min(shape) // 4, 1))}."
        )


def _model(rank: int) -> nn.Module:
    from ..models import LatentFactor

    return LatentFactor(rank)


def _guide(name: str) -> nn.Module:
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
    from ..inference.run_directory import load, read_config, training_file
    from .matrix import require_training

    earlier = load(run, device=device)
    if earlier.converged is not False:
        typer.echo(f"{run}: nothing to go on with: {earlier.stopped}", err=True)
        return earlier, run
    from_disk = read_config(run)["data"]["from_disk"]
    data = require_training(
        data or training_file(run), run, "to go on with the fit", "`platewise fit DATA --resume RUN`"
    )
    settings = {"seed": earlier.seed, "device": device, "dtype": earlier.dtype, "resume": earlier}
    fitted = _fit(earlier.model, earlier.guide, data, from_disk, **settings, **earlier.options)
    _save(fitted, run, data, from_disk, force=True)
    return fitted, run


def _report(fitted: Fitted, run: Path, as_json: bool) -> None:
    """Say how the fit ended and what to do next.

    Raises:
        typer.Exit: 130 after Ctrl-C, 1 where the fit broke down.
    """
    from .output import print_json

    last = fitted.history.iloc[-1].to_dict() if len(fitted.history) else {}
    if as_json:
        ends = {"stopped": fitted.stopped, "converged": fitted.converged}
        print_json({"run": str(run), **ends, "elbo": last.get("elbo"), "seconds": last.get("seconds")})
    else:
        typer.echo(_summary(fitted, run, last))
    if fitted.stopped.startswith("interrupted"):
        typer.echo(f"saved as it is; go on with `platewise fit --resume {run}`", err=True)
        raise typer.Exit(130)
    if fitted.converged is False:
        raise typer.Exit(1)


def _summary(fitted: Fitted, run: Path, last: dict[Any, Any]) -> str:
    lines = [f"{run}: {fitted.stopped}"]
    if last:
        n_entries = int(fitted.obs["n_entries"].sum())
        per_entry = f"ELBO {last['elbo']:,.0f} ({last['elbo'] / n_entries:.4f} per entry)"
        lines.append(f"{per_entry} after {last['seconds']:.1f} s of training")
    if fitted.converged is not False:
        lines.append(f"next: platewise evaluate {run} TEST.h5ad")
    return "\n".join(lines)
