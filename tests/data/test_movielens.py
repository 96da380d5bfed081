import zipfile

import pytest
from platewise.data.ratings import read_ratings

FLAGS = "0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0|0"  # Comedy

RELEASES = {
    "100k": {
        "u.data": b"196\t242\t3\t881250949\n22\t242\t1\t878887116\n22\t51\t2\t880606923\n",
        "u.item": f"51|Citron été (1990)|01-Jan-1990||http://x|{FLAGS}\n"
        f"242|Kolya (1996)|24-Jan-1997||http://y|{FLAGS}\n243|Unseen|||z|{FLAGS}\n".encode("latin-1"),
        "u.user": b"22|24|M|technician|85711\n196|53|F|other|94043\n",
        "u1.base": b"196\t242\t3\t881250949\n22\t51\t2\t880606923\n",
    },
    "1m": {
        "ratings.dat": b"22::242::1::878887116\n196::242::3::881250949\n22::51::2::880606923\n",
        "movies.dat": "51::Citron été (1990)::Comedy\n242::Kolya (1996)::Comedy\n243::Un::seen::War\n".encode(
            "latin-1"
        ),
        "users.dat": b"22::M::24::7::85711\n196::F::53::0::94043\n",
    },
    "10m": {
        "ratings.dat": b"22::242::1::878887116\n196::242::3::881250949\n22::51::2::880606923\n",
        "movies.dat": "51::Citron été (1990)::Comedy\n242::Kolya (1996)::Comedy\n".encode(),
    },
    "25m": {
        "ratings.csv": b"userId,movieId,rating,timestamp\n22,242,1.0,878887116\n"
        b"196,242,3.0,881250949\n22,51,2.0,880606923\n",
        "movies.csv": b"movieId,title,genres\n" + '51,Citron été (1990),Comedy\n242,"Kolya (1996)",Comedy\n'.encode(),
        "tags.csv": b"userId,movieId,tag,timestamp\n",
    },
}


def put(folder, release):
    for name, content in RELEASES[release].items():
        (folder / name).write_bytes(content)
    return folder


def put_zip(folder, release):
    path = folder / "ml.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("__MACOSX/ml/._ratings.csv", "junk")
        for name, content in RELEASES[release].items():
            file.writestr(f"ml-{release}/{name}", content)
    return path


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("form", [put, put_zip], ids=["folder", "zip"])
def test_published_layouts(tmp_path, release, form):
    adata = read_ratings(form(tmp_path, release))
    assert adata.obs_names.tolist() == ["22", "196"]
    assert adata.var_names.tolist() == ["51", "242"]  # nobody rated 243
    assert adata.X.toarray().tolist() == [[2, 1], [0, 3]]
    assert adata.layers["timestamp"].data.tolist() == [880606923, 878887116, 881250949]
    assert adata.var["title"].tolist() == ["Citron été (1990)", "Kolya (1996)"]
    assert adata.var["genres"].tolist() == ["Comedy", "Comedy"]
    if release in ("100k", "1m"):
        assert adata.obs["age"].tolist() == [24, 53]
        assert adata.obs["gender"].tolist() == ["M", "F"]
        assert adata.obs["zip"].tolist() == ["85711", "94043"]
        assert adata.obs["occupation"].tolist() in (["technician", "other"], [7, 0])


def test_single_files_find_the_tables_beside_them(tmp_path):
    put(tmp_path, "100k")
    adata = read_ratings(tmp_path / "u1.base")
    assert adata.X.nnz == 2
    assert adata.var["title"].tolist()[1] == "Kolya (1996)"


def test_a_nested_folder(tmp_path):
    (tmp_path / "ml-25m").mkdir()
    put(tmp_path / "ml-25m", "25m")
    assert read_ratings(tmp_path).var["title"].notna().all()


def test_tables_of_others_are_left_alone(tmp_path):
    put(tmp_path, "25m")
    (tmp_path / "mine.csv").write_text("user,book,rating\n1,51,3\n2,242,4\n")
    assert list(read_ratings(tmp_path / "mine.csv").var.columns) == []
    (tmp_path / "mine.csv").write_text("user,movie,rating\n1,51,3\n2,999,4\n")
    assert read_ratings(tmp_path / "mine.csv").var["title"].tolist() == ["Citron été (1990)", ""]
    (tmp_path / "mine.csv").write_text("user,movie,rating\n1,a,3\n2,b,4\n")
    assert list(read_ratings(tmp_path / "mine.csv").var.columns) == []


def test_a_title_with_the_separator(tmp_path):
    put(tmp_path, "1m")
    (tmp_path / "ratings.dat").write_bytes(b"22::243::1::878887116\n196::242::3::881250949\n")
    assert read_ratings(tmp_path).var["title"].tolist() == ["Kolya (1996)", "Un::seen"]
