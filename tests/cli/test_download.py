"""`cxr-keras download` as a person runs it."""

import pytest
from click.testing import CliRunner
from helpers.processes import assert_one_sentence

from cxr_keras.cli import main


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


def test_chestmnist_is_one_file_of_the_size_asked_for(run_cli, mirror, tmp_path):
    result = run_cli(
        "download", tmp_path, "--set", "chestmnist", CXR_KERAS_CHESTMNIST_URL=mirror.url
    )
    address = f"{mirror.url}/chestmnist_64.npz"
    assert_one_sentence(result, address, "404", "$CXR_KERAS_CHESTMNIST_URL")
    CliRunner(env={"CXR_KERAS_CHESTMNIST_URL": mirror.url}).invoke(
        main, ["download", str(tmp_path), "--set", "chestmnist", "--size", "28"]
    )
    assert [name for name, _ in mirror.requests] == ["chestmnist_64.npz", "chestmnist.npz"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--size", "64"], "--size belongs to --set chestmnist"),
        (["--set", "chestmnist", "--archives", "1"], "belong to --set nih; ChestMNIST is one file"),
        (["--set", "chestmnist", "--metadata-only"], "belong to --set nih; ChestMNIST is one file"),
        (["--set", "chestmnist", "--size", "32"], "'32' is not one of '28', '64', '128', '224'"),
        (["--set", "mimic"], "'mimic' is not one of 'nih', 'chestmnist'"),
    ],
)
def test_options_of_the_other_data_set(tmp_path, options, says):
    result = CliRunner().invoke(main, ["download", str(tmp_path / "x"), *options])
    assert result.exit_code == 2
    assert says in " ".join(result.output.split())
    assert not (tmp_path / "x").exists()
