"""Published data sets by name: downloaded once into pooch's cache, checked, read in place.

Checksums. GroupLens publishes an MD5 beside each fixed release: ``<base>/ml-100k.zip.md5`` and so on, with
``<base>`` = https://files.grouplens.org/datasets/movielens. The values below were not fetched from there but
from public code that quotes those files: for 100K, 1M, 10M, 20M and 25M
https://github.com/eli-osherovich/papers_with_code (``datasets/movielens/dl_config.py``), where the five agree
with every other project found to quote them; for 32M, ``pooch.retrieve`` calls and notes that quote
``ml-32m.zip.md5`` in several public projects. ``ml-latest-small`` is replaced from time to time, under one
name: it has no lasting checksum and none is shipped.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests

from .byte_bar import byte_bar
from .errors import PlatewiseError

BASE_URL = "https://files.grouplens.org/datasets/movielens"
BASE_URL_VARIABLE = "PLATEWISE_MOVIELENS_URL"
_TIMEOUT = 30  # seconds without a byte

logger = logging.getLogger("platewise")


@dataclass(frozen=True)
class Published:
    """A published archive.

    Attributes:
        file: Its name under the base URL.
        md5: Its checksum, or None where no lasting one is published.
    """

    file: str
    md5: str | None


MOVIELENS = {
    "movielens-100k": Published("ml-100k.zip", "0e33842e24a9c977be4e0107933c0723"),
    "movielens-1m": Published("ml-1m.zip", "c4d9eecfca2ab87c1945afe126590906"),
    "movielens-10m": Published("ml-10m.zip", "ce571fd55effeba0271552578f2648bd"),
    "movielens-20m": Published("ml-20m.zip", "cd245b17a1ae2cc31bb14903e1204af3"),
    "movielens-25m": Published("ml-25m.zip", "6b51fb2759a8657d3bfcbfc42b592ada"),
    "movielens-32m": Published("ml-32m.zip", "d472be332d4daa821edc399621853b57"),
    "movielens-latest-small": Published("ml-latest-small.zip", None),
}


def is_published(name: str) -> bool:
    """Whether a source is meant as the name of a published data set."""
    return name.startswith("movielens-") and not Path(name).exists()


def download(
    name: str, *, base_url: str | None = None, cache: str | Path | None = None, progress: bool = False
) -> Path:
    """Fetch a published archive, or find it in the cache.

    MovieLens may not be redistributed and is for research: see the README inside the archive.

    Args:
        name: ``"movielens-100k"``, ``-1m``, ``-10m``, ``-20m``, ``-25m``, ``-32m`` or ``-latest-small``.
        base_url: Where the archives lie; by default the environment variable ``PLATEWISE_MOVIELENS_URL``
            and, failing that, GroupLens.
        cache: Folder to keep them in; pooch's cache for "platewise" by default.
        progress: Show a progress bar on standard error.

    Returns:
        The path of the zip archive.

    Raises:
        PlatewiseError: The name is not known, the server cannot be reached or has no such file, or the
            file is not the one published (its checksum differs).
    """
    published = _published(name)
    base = base_url or os.environ.get(BASE_URL_VARIABLE) or BASE_URL
    url = f"{base.rstrip('/')}/{published.file}"
    if published.md5 is None:
        logger.info("%s: no lasting checksum is published, so the download is not checked", published.file)
    try:
        return Path(_retrieve(url, published, Path(cache or pooch.os_cache("platewise")), progress))
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else "an error"
        raise PlatewiseError(f"Expected a file at {url}, got HTTP status {status}. Check the base URL.") from error
    except requests.RequestException as error:
        raise PlatewiseError(
            f"Expected a connection to {url}, got {type(error).__name__}. Go online, name another server in "
            f"{BASE_URL_VARIABLE}, or download the file elsewhere and give its path."
        ) from error
    except ValueError as error:
        raise PlatewiseError(
            f"Expected the published {published.file} (md5 {published.md5}), got another file from {url}. "
            "Try again; a proxy may have answered in its place."
        ) from error
    except OSError as error:
        raise PlatewiseError(f"Expected to write {published.file}, got: {error}. Is the disk full?") from error


def _published(name: str) -> Published:
    if name not in MOVIELENS:
        raise PlatewiseError(
            f"Expected a file or one of {', '.join(MOVIELENS)}, got {name!r}. Check the spelling, or the path."
        )
    return MOVIELENS[name]


def _retrieve(url: str, published: Published, cache: Path, progress: bool) -> str:
    with byte_bar(published.file, shown=progress) as bar:
        return pooch.retrieve(
            url,
            known_hash=f"md5:{published.md5}" if published.md5 else None,
            fname=published.file,
            path=cache,
            downloader=pooch.HTTPDownloader(progressbar=bar, timeout=_TIMEOUT),
        )
