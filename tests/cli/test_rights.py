"""Folders and files that may not be read or written."""

import json
import os
import shutil

import pytest
from helpers.processes import SETPRIV, assert_one_sentence, cxr

needs_rights = pytest.mark.skipif(
    os.geteuid() == 0 and SETPRIV is None, reason="root passes over rights, and setpriv is missing"
)


@pytest.mark.slow
@needs_rights
def test_a_cache_without_rights_names_the_setting(phantoms, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    result = cxr("prepare", phantoms, obey_rights=True, CXR_KERAS_CACHE=str(locked / "cache"))
    assert_one_sentence(result, "The cache folder", "Permission denied", "Set $CXR_KERAS_CACHE")


@pytest.mark.slow
@needs_rights
def test_a_home_without_rights_names_the_setting(phantoms, tmp_path):
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    result = cxr(
        *("prepare", phantoms),
        obey_rights=True,
        **{"HOME": str(home), "CXR_KERAS_CACHE": "", "XDG_CACHE_HOME": ""},
    )
    assert_one_sentence(result, "The cache folder", str(home), "Set $CXR_KERAS_CACHE")


@pytest.mark.slow
@needs_rights
def test_outputs_without_rights_name_the_option(run, phantoms, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    image = next((phantoms / "images").iterdir())
    written = cxr("predict", run.folder, image, "--csv", locked / "f.csv", obey_rights=True)
    assert_one_sentence(written, "f.csv cannot be written (Permission denied)")
    trained = cxr(
        *("train", "resnet_custom", "--data", phantoms, "--output-dir", locked / "runs"),
        obey_rights=True,
    )
    assert_one_sentence(trained, "cannot be made (Permission denied). Give --output-dir")


@pytest.mark.slow
@needs_rights
def test_an_image_without_rights_is_a_row_and_a_folder_a_sentence(run, phantoms, tmp_path):
    image = shutil.copy(next((phantoms / "images").iterdir()), tmp_path / "a.png")
    secret = shutil.copy(image, tmp_path / "b.png")
    os.chmod(secret, 0)
    result = cxr("predict", run.folder, tmp_path, "--json", obey_rights=True)
    assert result.returncode == 1
    rows = json.loads(result.stdout)
    assert [bool(row["error"]) for row in rows] == [False, True]
    assert "Permission denied" in rows[1]["error"]
    assert "b.png" in rows[1]["error"]
