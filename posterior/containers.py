"""The one place that knows ArviZ: its container of either major version, and the netCDF file that both read."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import h5py
import xarray as xr

from ..data.errors import PlatewiseError
from ..data.writing import require_space, whole_file

Container = Literal["auto", "InferenceData", "DataTree"]


def resolved(container: Container | str) -> str:
    """The container meant: "auto" is that of the ArviZ installed, InferenceData in 0.x and DataTree in 1.x.

    Raises:
        PlatewiseError: If there is no such container.
    """
    if container not in get_args(Container):
        raise PlatewiseError(f"Expected container among {get_args(Container)}, got {container!r}. Choose one.")
    if container == "auto":
        return "InferenceData" if version("arviz").startswith("0.") else "DataTree"
    return container


def contain(groups: Mapping[str, xr.Dataset], container: Container | str = "auto") -> Any:
    """Datasets by group as ArviZ's own container.

    Raises:
        PlatewiseError: If InferenceData are asked for and the ArviZ installed has none.
    """
    if resolved(container) == "DataTree":
        return xr.DataTree.from_dict(dict(groups))
    return _inference_data()(**groups)


def groups_of(idata: Any) -> dict[str, xr.Dataset]:
    """The datasets of either container, by group."""
    if isinstance(idata, xr.DataTree):
        return {name: node.to_dataset() for name, node in idata.children.items()}
    return {name: idata[name] for name in idata.groups()}


def save_netcdf(idata: Any, path: str | Path, *, force: bool = False) -> None:
    """Write an ArviZ object as netCDF, readable by ArviZ of either major version: the whole file, or nothing.

    Args:
        idata: InferenceData or DataTree.
        path: Where to.
        force: Replace a file that is there.

    Raises:
        PlatewiseError: If the path exists and `force` is not set, its folder does not exist, or it cannot be written.
    """
    groups = groups_of(idata)
    with whole_file(path, force=force) as part:
        require_space(path, sum(dataset.nbytes for dataset in groups.values()))
        for name, dataset in groups.items():
            dataset.to_netcdf(part, mode="a" if part.exists() else "w", group=name, engine="h5netcdf")


def load_netcdf(path: str | Path, container: Container | str = "auto") -> Any:
    """Read what `save_netcdf` wrote, into memory.

    Args:
        path: The file.
        container: "InferenceData", "DataTree", or "auto": of the ArviZ installed.

    Raises:
        PlatewiseError: If the file is missing, truncated or no netCDF.
    """
    path = Path(path)
    if not path.is_file():
        raise PlatewiseError(f"Expected a netCDF file, got no such file: {path}. Check the path.")
    try:
        with h5py.File(path, "r") as file:
            names = [name for name, item in file.items() if isinstance(item, h5py.Group)]
        groups = {name: xr.load_dataset(path, group=name, engine="h5netcdf") for name in names}
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise PlatewiseError(f"Expected a whole netCDF file, got a damaged one: {path}. Write it again.") from error
    return contain(groups, container)


def _inference_data() -> Any:
    try:
        from arviz import InferenceData
    except Exception as error:  # a plotting package that does not match may fail in any way
        raise PlatewiseError(
            f"Expected ArviZ 0.x to import, got: {error}. Use container='DataTree', or mend the installation."
        ) from error
    return InferenceData
