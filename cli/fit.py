"""`platewise fit`: a model and a guide to data, into a run directory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from .given import only_given
from .models import ALGORITHMS_OF, DEFAULTS, DEFAULTS_OF_OWN, GUIDES, MODELS, OWN
from .new_fit import begin
from .options import MAX_SEED, Device, Force, Json, Threads, Trust
from .rank import AUTO, WIDEST
from .resume import go_on, refuse_with_resume


def _choice(what: str, names: Mapping[str, Iterable[str]], kind: str) -> str:
    """Help that names what each model has, and what it takes if nothing is given."""
    told = (f"of {model} {', '.join(names[model])} ({DEFAULTS[model][kind]} if not given)" for model in MODELS)
    of_own = f"of a model of your own {DEFAULTS_OF_OWN[kind]} if not given"
    return f"{what}: {'; '.join(told)}; {of_own}."


def fit(
    data: Annotated[Path | None, typer.Argument(metavar="DATA", help="The .h5ad to fit: ratings or cells.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The run directory to make.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help=f"The model: {', '.join(MODELS)}; {MODELS[0]} if not given. {OWN}: a class or function of a file of "
            "your own, which is run; `platewise new-model` writes one to start from."
        ),
    ] = None,
    guide: Annotated[
        str | None,
        typer.Option(
            help=_choice("The variational family", GUIDES, "guide") + " full (which auto is), low-rank, mixture and "
            "flow are joint families of what is drawn once for all rows; rows and columns are row-block then, or "
            "+mean-field, as in flow+mean-field."
        ),
    ] = None,
    algorithm: Annotated[str | None, typer.Option(help=_choice("The algorithm", ALGORITHMS_OF, "algorithm"))] = None,
    rank: Annotated[
        str | None,
        typer.Option(
            help=f"Number of factors; {DEFAULTS['latent-factor']['rank']} if not given. {AUTO}, of latent-factor: as "
            f"many as the data support, of at most {WIDEST} to begin with."
        ),
    ] = None,
    unstored: Annotated[
        str | None,
        typer.Option(
            help="latent-factor: how the model takes entries that are not stored: zero (observed zeros) or missing; as "
            "DATA says if not given. Counts may be taken either way, ratings as missing only."
        ),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(
            help="latent-factor: whose the noise of ratings is: constant (one sigma for all; the default), or rows, "
            "columns or both, each with a precision of its own. Entries that are not stored are missing then."
        ),
    ] = None,
    likelihood: Annotated[
        str | None,
        typer.Option(
            help="vae: distribution of a value: negative-binomial (the default), zero-inflated-negative-binomial, "
            "poisson, multinomial, bernoulli, or gaussian, which takes log-normalised values. count-factor: "
            "negative-binomial or poisson."
        ),
    ] = None,
    latent: Annotated[int | None, typer.Option(help="vae: dimensions of an embedding; 10 if not given.")] = None,
    hidden: Annotated[int | None, typer.Option(help="vae: units in a hidden layer; 128 if not given.")] = None,
    layers: Annotated[
        int | None, typer.Option(help="vae: hidden layers; 1 if not given, 0 for a linear decoder.")
    ] = None,
    batch_key: Annotated[
        str | None, typer.Option(help="vae: column of obs that says which batch a cell is of, any labels.")
    ] = None,
    covariate: Annotated[
        list[str] | None,
        typer.Option(
            help="vae: column of obs that the decoder reads, labels (as codes) or real numbers (standardised: mean 0, "
            "standard deviation 1); may be repeated. A model of your own finds it in batch.covariates."
        ),
    ] = None,
    dispersion: Annotated[
        str | None,
        typer.Option(help="vae: dispersions of negative binomials, one a gene, or a gene and batch: gene-batch."),
    ] = None,
    library: Annotated[
        str | None, typer.Option(help="vae: a cell's size: observed (its total, the default) or latent.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="FILE.py:NAME: an argument of the class; may be repeated."),
    ] = None,
    sweeps: Annotated[
        int | None,
        typer.Option(help="coordinate-ascent: most sweeps; 100 if not given, 300 with --rank auto or zeros."),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="coordinate-ascent: relative change of the bound in a sweep at which it ends; 0.0005 if not given, "
            "0.00001 with --rank auto, 0.0000001 with zeros that are not stored."
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
    epochs: Annotated[
        int | None, typer.Option(help="svi --until epochs: passes over the users; 60 if not given. A vae has its own.")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            help="svi: converged (stages of falling step size, until another would gain too little) or epochs (so "
            "many); if not given, epochs with --epochs, --validation or a model that recommends some (vae, "
            "count-factor), else converged."
        ),
    ] = None,
    max_epochs: Annotated[
        int | None, typer.Option(help="svi --until converged: passes at most, 500 if not given; more with --resume.")
    ] = None,
    batch_rows: Annotated[
        int | None,
        typer.Option(
            help="natural-gradient and svi: users per step; if not given, with natural-gradient a sixteenth of the "
            "users, 256 to 32768, with svi a twelfth of the users, 16 to 4096. vae and count-factor have their own."
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="svi: step size at its peak; 0.5 if not given. vae and count-factor have their own."),
    ] = None,
    estimator: Annotated[
        str | None,
        typer.Option(help="svi: how the expected log-likelihood is got: auto (the default), closed-form or sampled."),
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(help="svi: share of the rows, chosen by the seed, held out to end with the epoch best on them."),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(help="svi: epochs without a better bound on the rows held out after which it ends."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=MAX_SEED, help="Seed of everything random; 0 if not given.")
    ] = None,
    from_disk: Annotated[
        bool, typer.Option("--from-disk", help="natural-gradient and svi: stream DATA instead of loading it.")
    ] = False,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with a fit, in place.")] = None,
    trust: Trust = False,
    device: Device = "auto",
    threads: Threads = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Fit a model and write a run directory, which holds everything that the read-outs need.

    DATA are ratings, or cells by genes, whose zeros are observed. For the factor model, counts are log-normalised to a
    total of 10,000 a cell first, and so are those that read-outs take later; entries that are normalised already stay
    as they are. The VAE and count-factor model counts themselves.

    coordinate-ascent solves for every user and item in turn, exactly; natural-gradient does so for some users at a
    time, for data that do not fit into memory; svi climbs by noisy gradients, and is for any model.

    Ctrl-C ends a fit early and saves it as it is; --resume goes on as if it had never stopped, but for one by
    natural-gradient. So it does with one that --max-epochs cut off, if given a larger number.

    Examples:
        platewise fit train.h5ad --rank 16 --seed 0 -o RUN

        platewise fit train.h5ad --rank auto -o RUN

        platewise fit cells.h5ad --rank 20 -o RUN

        platewise fit cells.h5ad --model vae --batch-key batch -o RUN

        platewise fit train.h5ad --algorithm svi --guide mean-field --epochs 20 --from-disk -o RUN

        platewise fit train.h5ad --model my_model.py:MyModel --set rank=8 --guide full -o RUN

        platewise fit --resume RUN
    """
    from .outcome import report
    from .start import start

    start(threads)
    from ..inference.run_directory import save

    kinds = {"model": model, "guide": guide, "algorithm": algorithm}
    of_factors = {"rank": rank, "unstored": unstored, "noise": noise}
    of_networks = {"likelihood": likelihood, "latent": latent, "hidden": hidden, "layers": layers}
    of_cells = {"batch_key": batch_key, "covariate": covariate or None, "dispersion": dispersion, "library": library}
    choice: dict[str, Any] = {**kinds, **of_factors, **of_networks, **of_cells, "set": settings or None}
    options: dict[str, Any] = {
        "sweeps": sweeps,
        "tolerance": tolerance,
        "passes": passes,
        "drop_users": drop_users or None,
        "epochs": epochs,
        "until": until,
        "max_epochs": max_epochs,
        "batch_rows": batch_rows,
        "learning_rate": learning_rate,
        "estimator": estimator,
        "validation": validation,
        "patience": patience,
    }
    if resume is not None:
        of_now = {"seed": seed, "output": output, "from_disk": from_disk or None, "max_epochs": None}
        refuse_with_resume(choice | options | of_now)
        report(go_on(resume, data, device, trust, max_epochs), resume, json)
        return
    _refuse_trust(trust)
    data, made = _require_paths(data, output, force)
    about = {"seed": seed or 0, "device": device}
    fitted = begin(only_given(choice), only_given(options), data, made, from_disk, about)
    save(fitted, made, force=force, data=data, from_disk=from_disk)
    report(fitted, made, json)


def _refuse_trust(trust: bool) -> None:
    from ..data.errors import PlatewiseError

    if trust:
        raise PlatewiseError(
            "Expected --trust with --resume RUN, whose source is run, got it with a new fit. Leave it out."
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
