import hashlib
import http.server
import io
import sys
import threading
import zipfile

import pytest
from platewise.data import published as downloads
from platewise.data.errors import PlatewiseError
from platewise.data.ratings import read_ratings


def archive():
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as file:
        file.writestr("ml-x/ratings.csv", "userId,movieId,rating,timestamp\n1,1,5.0,1\n2,2,4.0,2\n")
        file.writestr("ml-x/movies.csv", "movieId,title,genres\n1,One,Drama\n2,Two,War\n")
    return stored.getvalue()


ARCHIVE = archive()


class Handler(http.server.BaseHTTPRequestHandler):
    served = 0

    def do_GET(self):
        found = self.path.startswith("/ml/ml-")
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(ARCHIVE) if found else 0))
        self.end_headers()
        if found:
            type(self).served += 1
            self.wfile.write(ARCHIVE)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    Handler.served = 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads.pooch, "os_cache", lambda _: tmp_path / "cache")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv(downloads.BASE_URL_VARIABLE, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def published(monkeypatch):
    entry = downloads.Published("ml-100k.zip", hashlib.md5(ARCHIVE).hexdigest())
    monkeypatch.setitem(downloads.MOVIELENS, "movielens-100k", entry)


def test_downloaded_once_and_read_in_place(server, published):
    for _ in range(2):
        adata = read_ratings("movielens-100k", base_url=f"{server}/ml/")
        assert adata.var["title"].tolist() == ["One", "Two"]
    assert Handler.served == 1


def test_a_bar_counts_the_bytes(server, published, capsys, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setitem(sys.modules, "tqdm", None)  # not needed
    for _ in range(2):
        read_ratings("movielens-100k", base_url=f"{server}/ml/", progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("ml-100k.zip") >= 1
    assert f"{len(ARCHIVE)}/{len(ARCHIVE)} bytes" in shown.err
    assert Handler.served == 1


def test_without_a_bar_nothing_is_shown(server, published, capsys):
    downloads.download("movielens-100k", base_url=f"{server}/ml/")
    assert capsys.readouterr() == ("", "")


def test_base_url_from_the_environment(server, published, monkeypatch):
    monkeypatch.setenv(downloads.BASE_URL_VARIABLE, f"{server}/ml")
    assert downloads.download("movielens-100k").name == "ml-100k.zip"


def test_an_unchecked_archive_says_so(server, caplog):
    with caplog.at_level("INFO", "platewise"):
        downloads.download("movielens-latest-small", base_url=f"{server}/ml")
    assert "no lasting checksum" in caplog.text


def test_another_file_is_refused_and_not_kept(server, cache):
    with pytest.raises(PlatewiseError, match=r"Expected the published ml-1m.zip \(md5 c4d9"):
        read_ratings("movielens-1m", base_url=f"{server}/ml")
    assert list(cache.iterdir()) == []


def test_not_there(server):
    with pytest.raises(PlatewiseError, match="HTTP status 404"):
        downloads.download("movielens-1m", base_url=f"{server}/elsewhere")


def test_offline():
    with pytest.raises(PlatewiseError, match=r"Expected a connection to .*Go online") as caught:
        downloads.download("movielens-1m", base_url="http://127.0.0.1:9")
    assert "\n" not in str(caught.value)


def test_unknown_name():
    with pytest.raises(PlatewiseError, match="movielens-latest-small, got 'movielens-2m'"):
        downloads.download("movielens-2m")


def test_a_file_of_that_name_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "movielens-mine").write_text("1,1,5\n2,2,4\n")
    assert read_ratings("movielens-mine").X.nnz == 2


def test_checksums_look_like_checksums():
    sums = [entry.md5 for entry in downloads.MOVIELENS.values() if entry.md5 is not None]
    assert len(set(sums)) == len(sums) == 6
    assert all(len(bytes.fromhex(digest)) == 16 for digest in sums)
