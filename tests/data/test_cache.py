"""`cache list` and `cache clear`: what they name, count, delete, and never touch."""

import os
import subprocess
import sys
import time

import click
import pytest
from click.testing import CliRunner
from helpers.places import ROOT

from cxr_keras.cli import main
from cxr_keras.data.cache import clear_cache, list_cache, total_size
from cxr_keras.data.preparation import prepare

DAY = 86_400


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A cache folder of this test's own."""
    monkeypatch.setenv("CXR_KERAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def filled(own, make_folder):
    """Everything that a cache holds: two choices of one folder's images, features, phantoms."""
    rows = [(f"{i:02d}.png", "Mass" if i % 2 else "Edema", i) for i in range(24)]
    folder = make_folder(rows)
    prepare(folder, per_class=8)
    prepare(folder)
    for kind, name, file in (
        ("features", "0123456789abcdef0123", "features.npy"),
        ("phantoms", "v1-256-seed7", "PHANTOMS.txt"),
    ):
        (own / kind / name).mkdir(parents=True)
        (own / kind / name / file).write_bytes(b"x" * 1000)
    return own


def cli(*args):
    return CliRunner().invoke(main, ["cache", *args])


def make_old(folder, days):
    os.utime(folder, (time.time() - days * DAY,) * 2)


def test_everything_is_listed_with_its_size(filled):
    entries = list_cache()
    kinds = sorted(entry.what for entry in entries)
    assert kinds == ["features of frozen layers", "manifest", "manifest", "phantoms", "pixel store"]
    for entry in entries:
        sizes = [path.stat().st_size for path in entry.folder.iterdir()]
        assert entry.size == sum(sizes) > 0
        assert entry.folder.parent.parent == filled
        assert entry.days < 0.1
    store = next(entry for entry in entries if entry.what == "pixel store")
    assert store.size > 24 * 256 * 256
    result = cli("list")
    assert result.exit_code == 0
    assert "pixel store (224 px, crop)" in result.stdout
    for entry in entries:
        assert str(entry.folder.relative_to(filled)) in result.stdout
    total = result.stdout.splitlines()[-1].split()
    assert total[:3] == ["total", f"{total_size(entries) / 1e6:.3g}", "MB"]


def test_clear_deletes_all_and_says_what_was_freed(filled, make_folder):
    size = total_size(list_cache())
    result = cli("clear")
    assert result.exit_code == 0
    assert result.stdout == f"Freed {size / 1e6:.3g} MB (5 folders).\n"
    assert list_cache() == []
    assert not [path for path in filled.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert "Freed 0 B (0 folders)." in cli("clear").stdout
    assert len(prepare(filled.parent / "nih").manifest) == 24  # and all is made again


def test_only_what_was_not_used_for_long_is_cleared(filled):
    features, phantoms = filled / "features", filled / "phantoms"
    make_old(features / "0123456789abcdef0123", 40)
    make_old(phantoms / "v1-256-seed7", 29)
    assert "40 days ago" in cli("list").stdout
    assert "Freed 1 kB (1 folders)." in cli("clear", "--older-than", "30").stdout
    assert not list(features.glob("*[0-9a-f]"))
    assert len(list_cache()) == 4


def test_using_makes_it_young(filled):
    store = next(entry.folder for entry in list_cache() if entry.what == "pixel store")
    make_old(store, 40)
    prepare(filled.parent / "nih", per_class=3)
    assert not [entry for entry in list_cache() if entry.days > 1]


def test_what_is_not_this_programs_is_never_deleted(filled, tmp_path):
    """Somebody may have named a folder of their own in $CXR_KERAS_CACHE."""
    precious = {
        filled / "thesis.txt",
        filled / "mine" / "index.csv",
        filled / "pixels" / "holiday" / "beach.png",
        filled / "features" / "notes.txt",
        tmp_path / "elsewhere" / "store" / "index.csv",
        tmp_path / "elsewhere" / "features.npy",
    }
    for path in precious:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("keep")
    (filled / "pixels" / "link-0123456789ab").symlink_to(tmp_path / "elsewhere" / "store")
    (filled / "features" / "f").mkdir()
    (filled / "features" / "f" / "features.npy").symlink_to(tmp_path / "elsewhere" / "features.npy")
    clear_cache()
    assert all(path.read_text() == "keep" for path in precious)
    (filled / "pixels").rename(tmp_path / "elsewhere" / "pixels")
    (filled / "pixels").symlink_to(tmp_path / "elsewhere" / "pixels")
    prepare(filled.parent / "nih")
    clear_cache()
    assert list((tmp_path / "elsewhere" / "pixels").glob("nih-*/pixels.raw"))


def test_what_another_process_works_on_is_left(filled):
    store = next(entry.folder for entry in list_cache() if entry.what == "pixel store")
    (filled / "features" / ".aaaa.1234.tmp").mkdir()
    code = (
        "import sys, time; from pathlib import Path; from cxr_keras.utils.files import hold_lock\n"
        "with hold_lock(Path(sys.argv[1]), waiting=None), hold_lock(Path(sys.argv[2]), waiting=''):"
        "\n print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(store), str(filled / "features" / "aaaa")]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    result = cli("clear")
    assert result.exit_code == 0
    assert f"{store} is left: another process is working on it" in result.stderr
    assert {entry.what for entry in list_cache()} == {"pixel store", "half-written"}
    other.kill()
    other.wait()
    clear_cache()
    assert list_cache() == []


def test_a_training_goes_on_while_the_cache_is_cleared(filled):
    split = prepare(filled.parent / "nih").split("train")
    before = split.batch(slice(None))
    assert cli("clear").exit_code == 0
    assert (split.batch(slice(None)) == before).all()


@pytest.mark.parametrize("name", sorted(main.commands["cache"].commands))
def test_each_has_help_and_stands_in_the_docs(name):
    command = main.commands["cache"].commands[name]
    text = command.get_help(
        click.Context(command, info_name=f"cxr-keras cache {name}", **main.context_settings)
    )
    assert f"cxr-keras cache {name}" in text.partition("Example")[2]
    assert f"cxr-keras cache {name}" in (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
