"""Files that a reader never sees half."""

import pytest

from tubelet.evaluation.whole import written_whole


def test_what_stood_there_stays_until_the_new_file_is_whole(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("before")
    with written_whole(path) as partial:
        partial.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_what_stood_there_and_nothing_else(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("before")

    def write():
        with written_whole(path) as partial:
            partial.write_text("aft")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
