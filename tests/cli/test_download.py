"""`cxr-keras download` as a person runs it."""

import pytest
from helpers.processes import assert_one_sentence


def test_a_mirror_without_the_files_is_one_sentence_that_names_the_setting(
    run_cli, mirror, tmp_path
):
    address = {"CXR_KERAS_NIH_METADATA_URL": mirror.url, "CXR_KERAS_NIH_URL": mirror.url}
    result = run_cli("download", tmp_path / "nih", "--metadata-only", **address)
    assert_one_sentence(result, mirror.url, "404", "$CXR_KERAS_NIH_METADATA_URL")
    assert result.stdout == ""
    assert len(mirror.requests) == 1
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert left == []


@pytest.mark.parametrize("numbers", ["13", "0", "2-1", "all"])
def test_archives_that_are_none_are_one_sentence(run_cli, mirror, tmp_path, numbers):
    address = {"CXR_KERAS_NIH_METADATA_URL": mirror.url, "CXR_KERAS_NIH_URL": mirror.url}
    result = run_cli("download", tmp_path / "nih", "--archives", numbers, **address)
    assert_one_sentence(result, "between 1 and 12, such as 1,3-5", repr(numbers))
    assert mirror.requests == []
    assert list(tmp_path.iterdir()) == []
