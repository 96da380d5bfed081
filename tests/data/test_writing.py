import os

import pytest
from platewise.data.errors import PlatewiseError
from platewise.data.writing import require_free, require_space, whole_file, whole_folder


def test_a_folder_is_never_replaced_by_a_file(tmp_path):
    (tmp_path / "letters").mkdir()
    with pytest.raises(PlatewiseError, match=r"Expected a file to replace, got a folder: .*letters. Choose"):
        require_free(tmp_path / "letters", force=True)
    with pytest.raises(PlatewiseError, match="got a folder"), whole_file(tmp_path / "letters", force=True):
        pass
    assert (tmp_path / "letters").is_dir()


def test_a_folder_is_replaced_by_force_if_it_is_marked_or_empty(tmp_path):
    for inside in ({}, {"mark": "old"}):
        path = tmp_path / f"run{len(inside)}"
        path.mkdir()
        for name, text in inside.items():
            (path / name).write_text(text)
        with whole_folder(path, force=True, mark="mark") as folder:
            (folder / "mark").write_text("new")
        assert (path / "mark").read_text() == "new"
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to.txt").write_text("dear")
    with pytest.raises(PlatewiseError, match="folder with mark to replace"):
        require_free(tmp_path / "letters", force=True, mark="mark")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_fails_leaves_nothing_and_the_old_stays(tmp_path, error):
    (tmp_path / "file.txt").write_text("old")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mark").write_text("old")
    expected = pytest.raises((PlatewiseError, KeyboardInterrupt), match=r"No space left|^$")
    with expected, whole_file(tmp_path / "file.txt", force=True) as part:
        part.write_text("half")
        raise error
    with expected, whole_folder(tmp_path / "run", force=True, mark="mark") as part:
        (part / "mark").write_text("half")
        raise error
    assert sorted(os.listdir(tmp_path)) == ["file.txt", "run"]
    assert (tmp_path / "file.txt").read_text() == (tmp_path / "run" / "mark").read_text() == "old"


def test_the_name_being_written_keeps_its_suffix(tmp_path):
    with whole_file(tmp_path / "a.b.npz") as part:
        assert part.parent == tmp_path
        assert part.suffix == ".npz"
        part.write_text("x")
    assert os.listdir(tmp_path) == ["a.b.npz"]


def test_room_is_asked_for_before_anything_is_written(tmp_path):
    require_space(tmp_path / "small", 1000)
    with pytest.raises(PlatewiseError, match=r"Expected to write .*big, about .* MB, got: .*Free some space"):
        require_space(tmp_path / "big", 1 << 60)
    assert os.listdir(tmp_path) == []
