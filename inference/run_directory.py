"""A fit on disk: a folder of plain files, without pickle, written whole or not at all.

| file                    | what                                                                      |
|-------------------------|---------------------------------------------------------------------------|
| `config.json`           | format, classes and settings, options, seed, versions, data, how it ended |
| `model.safetensors`     | the model's parameters                                                    |
| `guide.safetensors`     | the guide's parameters                                                    |
| `optimizer.safetensors` | what the algorithm needs to go on                                         |
| `history.csv`           | one line per epoch                                                        |
| `rows.parquet`          | names of the rows, their side columns and numbers of training entries     |
| `columns.parquet`       | the same of the columns                                                   |
| `source/*.py`           | copies of the source of a model or guide of one's own, if it has any      |
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.writing import require_space, whole_folder
from .device import pick_device
from .fitted import Fitted
from .own_source import Copies, Gathered
from .rebuild import allocate, described, fill, rebuild
from .recalibration import Recalibration

FORMAT = 1
CONFIG = "config.json"
_PLAIN = ("algorithm", "options", "seed", "stopped", "converged", "meaning", "fingerprint", "covariates")
_RECALIBRATION = "recalibration"
_TABLES = {"obs": "rows.parquet", "var": "columns.parquet"}
_TENSORS = {
    "model": "model.safetensors",
    "guide": "guide.safetensors",
    "state": "optimizer.safetensors",
}
FILES = (*_TENSORS.values(), "history.csv", *_TABLES.values())


def save(
    fitted: Fitted,
    path: Path | str,
    *,
    force: bool = False,
    data: Path | str | None = None,
    from_disk: bool = False,
) -> None:
    """Write a fit as a run directory.

    Args:
        fitted: The fit.
        path: The folder to make.
        force: Replace a run directory that is there; it stays until the new one is whole.
        data: The file of training data, remembered for read-outs that need its entries; the fit's own if it was made
            from a file.
        from_disk: Whether the fit streamed that file; going on with the fit does the same.

    Raises:
        PlatewiseError: If the path exists and may not be replaced, or the disk refuses or has no room.
    """
    if data is None and isinstance(fitted.data, Path):
        data, from_disk = fitted.data, True
    with whole_folder(path, force=force, mark=CONFIG) as folder:
        require_space(path, _size(fitted))
        for name, tensors in _tensors(fitted).items():
            _save_tensors(tensors, folder / _TENSORS[name])
        fitted.history.to_csv(folder / "history.csv", index=False)
        for name, file in _TABLES.items():
            getattr(fitted, name).to_parquet(folder / file)
        config = _config(fitted, data, from_disk, folder)
        config["files"] = {file: (folder / file).stat().st_size for file in _files(config)}
        (folder / CONFIG).write_text(json.dumps(config, indent=2, default=_plain) + "\n", encoding="utf-8")


def load(
    path: Path | str,
    *,
    model: nn.Module | Callable[[RowBatch], Any] | None = None,
    guide: nn.Module | None = None,
    device: str = "auto",
    trust_source: bool = False,
) -> Fitted:
    """Read a fit from its run directory.

    Source that a run holds a copy of is run only if `trust_source` says so, and only as the fit left it.

    Args:
        path: The run directory.
        model: The model (or plain function) as it was made for the fit; needed if it is not one of Platewise's own,
            unless a copy of its source is in the run and trusted.
        guide: The guide as it was made for the fit; likewise.
        device: Where to put them: "auto" (a GPU if there is one), "cpu", ...
        trust_source: Whether to run copies of source that the run holds (`source_files`), to make what is not given.

    Returns:
        The fit: the same posterior to the bit, and to be gone on with (`resume=`).

    Raises:
        PlatewiseError: If a file is missing, truncated or of another format, or does not fit the model; if source would
            have to run that is not trusted, or has changed since the fit.
    """
    path = Path(path)
    config = read_config(path)
    _check_sizes(path, config)
    tables = {name: _reading(pd.read_parquet, path / file) for name, file in _TABLES.items()}
    history = _reading(_read_history, path / "history.csv")
    about = {name: config[name] for name in _PLAIN} | {"options": _with_tuples(config["options"])}
    if config.get(_RECALIBRATION) is not None:
        about[_RECALIBRATION] = Recalibration(**_with_tuples(config[_RECALIBRATION]))
    copies = Copies(path, config.get("source", {}), trust_source)
    model = rebuild(config["model"], "model", model, copies)
    guide = rebuild(config["guide"], "guide", guide, copies)
    sizes = (len(tables["obs"]), len(tables["var"]))
    like = torch.empty(0, dtype=getattr(torch, config["dtype"]), device=pick_device(device))
    allocate(model, guide, sizes, config["covariates"], like)
    for name, module in (("model", model), ("guide", guide)):
        fill(module, _reading(load_file, path / _TENSORS[name]), path / _TENSORS[name])
    state = _reading(load_file, path / _TENSORS["state"])
    data = training_file(path)
    return Fitted(model=model, guide=guide, history=history, state=state, data=data, **tables, **about)


def read_config(path: Path | str) -> dict[str, Any]:
    """The contents of `config.json`.

    Raises:
        PlatewiseError: If the path is no run directory, or one that this version cannot read.
    """
    path = Path(path)
    if not path.is_dir():
        got = "a file" if path.exists() else "no such path"
        raise PlatewiseError(f"Expected a run directory, got {got}: {path}. Make one with `platewise fit`.")
    if not (path / CONFIG).is_file():
        raise PlatewiseError(f"Expected a run directory, got a folder without {CONFIG}: {path}. Check the path.")
    config = _reading(lambda file: json.loads(file.read_text(encoding="utf-8")), path / CONFIG)
    written = config.get("format") if isinstance(config, dict) else None
    if written != FORMAT:
        raise PlatewiseError(
            f"Expected a run directory of format {FORMAT}, got {written}: {path}. "
            "Read it with the version of Platewise that wrote it, or fit again."
        )
    missing = {*_PLAIN, "model", "guide", "data", "dtype", "files"} - set(config)
    if missing:
        raise PlatewiseError(f"Expected {CONFIG} to hold {sorted(missing)[0]!r}, got none: {path}. Fit again.")
    return config


def source_files(path: Path | str) -> list[Path]:
    """Copies of source that a run holds of a model or guide that is not Platewise's own."""
    return [Path(path) / file for file in read_config(path).get("source", {})]


def training_file(path: Path | str) -> Path | None:
    """The file of training data that a run remembers, where it was or beside the run; None if it is gone."""
    file = read_config(path)["data"]["file"]
    if file is None:
        return None
    places = (Path(file), Path(path).absolute().parent / Path(file).name)
    return next((place for place in places if place.is_file()), None)


def _config(fitted: Fitted, data: Path | str | None, from_disk: bool, folder: Path) -> dict[str, Any]:
    sources = Gathered()
    modules = {"model": described(fitted.model, sources), "guide": described(fitted.guide, sources)}
    copied = {"source": digests} if (digests := sources.write(folder)) else {}
    packages = {"platewise": "platewise", "torch": "torch", "pyro": "pyro-ppl", "numpy": "numpy"}
    versions = {name: version(package) for name, package in packages.items()}
    return {
        "format": FORMAT,
        "versions": {"python": platform.python_version(), **versions},
        **modules,
        **copied,
        "dtype": str(fitted.dtype).removeprefix("torch."),
        "data": {"file": None if data is None else str(Path(data).absolute()), "from_disk": from_disk},
        **{name: getattr(fitted, name) for name in _PLAIN},
        _RECALIBRATION: None if fitted.recalibration is None else asdict(fitted.recalibration),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray | Tensor):
        return value.tolist()
    raise PlatewiseError(f"Expected settings that JSON can hold, got {type(value).__name__}. Use plain numbers.")


def _with_tuples(value: Any) -> Any:
    """JSON knows no tuples; options have no lists."""
    if isinstance(value, dict):
        return {key: _with_tuples(x) for key, x in value.items()}
    return tuple(_with_tuples(x) for x in value) if isinstance(value, list) else value


def _tensors(fitted: Fitted) -> dict[str, Mapping[str, Tensor]]:
    return {"model": fitted.model.state_dict(), "guide": fitted.guide.state_dict(), "state": fitted.state}


def _size(fitted: Fitted) -> int:
    """Bytes of a run directory, at the most."""
    tensors = sum(x.numel() * x.element_size() for part in _tensors(fitted).values() for x in part.values())
    tables = (fitted.obs, fitted.var, fitted.history)
    return tensors + sum(int(table.memory_usage(deep=True).sum()) for table in tables)


def _save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors; those that share memory are written once each."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        x = tensor.detach().cpu().contiguous()
        apart[name] = x.clone() if x.untyped_storage().data_ptr() in seen else x
        seen.add(x.untyped_storage().data_ptr())
    try:
        save_file(apart, path)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    path.chmod(0o666 & path.parent.stat().st_mode)  # safetensors would keep it to its owner


def _files(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The files of a run beside `config.json`."""
    return (*FILES, *config.get("source", {}))


def _check_sizes(path: Path, config: Mapping[str, Any]) -> None:
    for file in _files(config):
        if not (path / file).is_file():
            raise PlatewiseError(f"Expected {file} in the run directory {path}, got none. Copy it again, or fit again.")
        got, expected = (path / file).stat().st_size, config["files"].get(file)
        if got != expected:
            raise PlatewiseError(
                f"Expected {path / file} of {expected} bytes, got {got}: it was cut off or changed. "
                "Copy the run directory again, or fit again."
            )


def _reading(read: Callable[[Path], Any], path: Path) -> Any:
    try:
        return read(path)
    except MemoryError:
        raise
    except Exception as error:  # four libraries raise a dozen types on a damaged file
        raise PlatewiseError(
            f"Expected a whole file, got a damaged one: {path}. Copy the run directory again, or fit again."
        ) from error


def _read_history(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, float_precision="round_trip")
