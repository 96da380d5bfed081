"""Counts of a few cells, and files of them as others write them."""

import gzip
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.io
import scipy.sparse as sp

CELLS = [f"CELL{k}-1" for k in range(12)]
GENES = ["NA", "TP53", *(f"GENE{k}" for k in range(5))]
IDS = [f"ENSG{k:03d}" for k in range(len(GENES))]


def counts(seed: int = 0) -> np.ndarray:
    """Twelve cells by seven genes; every cell and every gene has a count."""
    x = np.random.default_rng(seed).poisson(0.8, (len(CELLS), len(GENES))).astype(np.float32)
    x[np.arange(len(CELLS)), np.arange(len(CELLS)) % len(GENES)] += 1
    return x


def annotated(x: np.ndarray, **parts: object) -> ad.AnnData:
    obs, var = pd.DataFrame(index=CELLS[: len(x)]), pd.DataFrame({"gene_ids": IDS}, index=GENES)
    return ad.AnnData(sp.csr_matrix(x), obs=obs, var=var, **parts)


def write(path: Path, lines: list[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


def write_folder(folder: Path, x: np.ndarray, version: int = 3, prefix: str = "", cells=CELLS, types=None) -> Path:
    """A folder of Cell Ranger 2 (plain) or 3 (gzipped)."""
    folder.mkdir(parents=True, exist_ok=True)
    packed = ".gz" if version == 3 else ""
    scipy.io.mmwrite(folder / "written.mtx", sp.coo_matrix(x.T.astype(int)), field="integer")
    write(folder / f"{prefix}matrix.mtx{packed}", (folder / "written.mtx").read_text().splitlines())
    (folder / "written.mtx").unlink()
    write(folder / f"{prefix}barcodes.tsv{packed}", list(cells))
    types = types or ["Gene Expression"] * len(GENES)
    more = [f"\t{type_}" for type_ in types] if version == 3 else [""] * len(GENES)
    name = "features" if version == 3 else "genes"
    write(folder / f"{prefix}{name}.tsv{packed}", [f"{i}\t{g}{m}" for i, g, m in zip(IDS, GENES, more, strict=True)])
    return folder


def write_h5(path: Path, x: np.ndarray, version: int = 3, genome: str = "GRCh38") -> Path:
    """10x's .h5; of version 2, each call adds a genome."""
    matrix = sp.csr_matrix(x)
    with h5py.File(path, "a") as file:
        group = file.create_group("matrix" if version == 3 else genome)
        group["barcodes"] = np.array(CELLS, dtype="S")
        group["data"], group["indices"] = matrix.data.astype(np.int32), matrix.indices.astype(np.int64)
        group["indptr"], group["shape"] = matrix.indptr.astype(np.int64), np.array(x.T.shape, np.int32)
        if version == 3:
            features = group.create_group("features")
            features["id"], features["name"] = np.array(IDS, dtype="S"), np.array(GENES, dtype=object)
            features["feature_type"] = np.array(["Gene Expression"] * len(GENES), dtype="S")
            features["genome"] = np.array([genome] * len(GENES), dtype="S")
        else:
            group["genes"], group["gene_names"] = np.array(IDS, dtype="S"), np.array(GENES, dtype="S")
    return path
