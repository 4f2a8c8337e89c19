"""What was called otherwise once is still taken, and says what it is called."""

import pytest
from click.testing import CliRunner

from cxr_keras.cli import main


def prepared(*words):
    done = CliRunner().invoke(main, ["prepare", *map(str, words)])
    assert done.exit_code == 0, done.output
    return done


@pytest.mark.parametrize("method", ["patient", "paper"])
def test_split_does_what_split_method_does(method, phantoms, tmp_path):
    former = prepared(phantoms, "--split", method, "--out", tmp_path / "former")
    now = prepared(phantoms, "--split-method", method, "--out", tmp_path / "now")
    files = [tmp_path / folder / "manifest.csv" for folder in ("former", "now")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert f"write --split-method {method}." in former.stderr
    assert "is now called" not in now.stderr


def test_the_name_of_today_counts_where_both_are_given(phantoms, tmp_path):
    both = ("--split", "paper", "--split-method", "patient")
    prepared(phantoms, *both, "--out", tmp_path / "both")
    prepared(phantoms, "--out", tmp_path / "now")
    files = [tmp_path / folder / "manifest.csv" for folder in ("both", "now")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_former_name_is_checked_like_todays_and_not_in_the_help():
    wrong = CliRunner().invoke(main, ["prepare", "--split", "random"])
    assert wrong.exit_code == 2
    assert "official" in wrong.output
    assert "--split " not in CliRunner().invoke(main, ["prepare", "--help"]).output
