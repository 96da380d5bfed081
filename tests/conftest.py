"""Every test runs seeded, validated and in float64, with shape annotations checked."""

import os
from pathlib import Path

import matplotlib
from jaxtyping import install_import_hook

matplotlib.use("Agg")
PACKAGES = [f"platewise.{name}" for name in ("data", "models", "guides", "inference", "posterior", "testing")]
# It compiles a check for every function that is defined, those within functions at every call: not in what is hot.
install_import_hook(PACKAGES, "beartype.beartype")

import numpy as np  # noqa: E402
import pyro  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

UNSEEDED = "PLATEWISE_TEST_UNSEEDED" in os.environ  # a run that looks for lucky seeds


def pytest_configure(config):
    """Of several processes (`-n 2`) each has one thread, and a cache of compiled code to itself."""
    if config.getoption("numprocesses", None):
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # set before workers start: they load numpy before this file
    if "PYTEST_XDIST_WORKER" in os.environ:
        # Two processes that add to one cache at once can file the code of one under the types of the other.
        cache = config.rootpath / ".pytest_cache" / f"numba-{os.environ['PYTEST_XDIST_WORKER']}"
        os.environ["NUMBA_CACHE_DIR"] = str(cache)


@pytest.fixture(autouse=True)
def _numerics():
    """A fixed seed (unless told otherwise), Pyro's validation, and float64 as the default type."""
    if not UNSEEDED:
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 (libraries that still read the global generator)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with pyro.validation_enabled(True):
        yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the published data sets; tests that need it are skipped where PLATEWISE_TEST_DATA names none."""
    named = os.environ.get("PLATEWISE_TEST_DATA")
    if named is None or not Path(named).is_dir():
        pytest.skip("no published data sets: set PLATEWISE_TEST_DATA to the folder that holds ml-100k, ml-1m, ...")
    return Path(named)
