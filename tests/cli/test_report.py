"""`platewise report`: one file, and the verdict on the screen."""


def test_report(folder, platewise):
    result = platewise("report", folder / "run", folder / "test.h5ad", "--rows", 10, "--draws", 100, "-o", "r.html")
    assert result.code == 0, result.err
    assert "point predictions (RMSE " in result.out
    assert "r.html: open it in a browser" in result.out
    with open("r.html", encoding="utf-8") as file:
        assert "Do the intervals hold?" in file.read()


def test_a_file_that_is_there_stays_and_training_data_are_no_test(folder, platewise):
    with open("r.html", "w", encoding="utf-8") as file:
        file.write("mine")
    result = platewise("report", folder / "run", "-o", "r.html")
    assert result.code == 2
    assert "--force" in result.err
    result = platewise("report", folder / "run", folder / "train.h5ad", "-o", "s.html")
    assert result.code == 2
    assert "got its training data" in result.err
