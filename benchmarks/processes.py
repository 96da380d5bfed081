"""One measurement in a fresh interpreter, so that none inherits another's memory, threads or warm caches.

A script run so prints one line of JSON last; `run_fresh` hands it back.
"""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

THREADS = 2
POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "LK_NUM_THREADS")


def run_fresh(script: Path | str, *arguments: object) -> dict[str, Any]:
    """Run a script with two threads in a process of its own.

    Args:
        script: The script.
        *arguments: What follows it on the command line.

    Returns:
        What the last line it prints says, or a `problem` if it died.
    """
    command = [sys.executable, str(script), *map(str, arguments)]
    environment = os.environ | dict.fromkeys(POOLS, str(THREADS)) | {"GOMP_SPINCOUNT": "10000"}  # as our CLI has it
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing on standard error"])[-1]
        return {"problem": f"failed with exit code {done.returncode}: {last}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def peak_megabytes() -> float:
    """Peak resident memory of this process so far (counted in bytes on macOS, in KiB elsewhere)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def warn_if_busy() -> float:
    """Load average before a run; a line is printed where it is above a half."""
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"Load average {load:.1f} before the run: on a busy machine threads wait for each other.")
    return load
