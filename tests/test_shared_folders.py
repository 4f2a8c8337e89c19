"""The folders that tests share are watched: whoever writes into one fails."""

import os

import pytest
from helpers.shared import assert_untouched, shared


@pytest.mark.parametrize("change", ["edit", "add", "remove"])
def test_a_change_fails_the_test_that_made_it_and_no_later_one(tmp_path, change):
    (tmp_path / "a.txt").write_text("a")
    watching = shared(tmp_path)
    watching.__enter__()
    assert_untouched()
    if change == "edit":
        (tmp_path / "a.txt").write_text("another")
    elif change == "add":
        (tmp_path / "b.txt").write_text("b")
    else:
        (tmp_path / "a.txt").unlink()
    with pytest.raises(AssertionError, match=r"copy it, or give another folder"):
        assert_untouched()
    assert_untouched()
    with pytest.raises(AssertionError, match="a test changed what is in it"):
        watching.__exit__(None, None, None)


def test_a_change_that_keeps_size_and_time_is_found_at_the_end(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("a")
    state = file.stat()
    watching = shared(tmp_path)
    watching.__enter__()
    file.write_text("b")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert_untouched()
    with pytest.raises(AssertionError, match="a test changed what is in it"):
        watching.__exit__(None, None, None)
