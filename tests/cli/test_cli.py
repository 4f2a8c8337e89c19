import json
import re
import sys
import warnings
import zlib
from pathlib import Path

import click
import pandas as pd
import pytest
from click.testing import CliRunner
from helpers.places import ROOT

from cxr_keras.cli import main
from cxr_keras.data.images import read_image

COMMAND_TABLE = ROOT / "docs" / "commands.md"
COMMANDS = sorted(main.commands)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_that_ends_in_an_example_and_is_in_the_docs(name):
    command = main.commands[name]
    context = click.Context(command, info_name=f"cxr-keras {name}", **main.context_settings)
    text = command.get_help(context)
    usage, _, rest = text.partition("Example")
    assert len(usage.strip().splitlines()) > 2
    assert f"cxr-keras {name}" in rest
    assert f"cxr-keras {name}" in COMMAND_TABLE.read_text(encoding="utf-8")


def test_help_imports_neither_keras_nor_torch(run_cli):
    result = run_cli("--help")
    assert result.returncode == 0
    assert "no medical device" in " ".join(result.stdout.split())
    import subprocess

    code = (
        "import sys; from cxr_keras.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'keras', 'torch', 'pandas', 'matplotlib', 'sklearn'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip().splitlines()[-1] == "[]"


@pytest.mark.slow
def test_train_evaluate_predict_as_a_person_runs_them(run_cli, phantoms, tmp_path):
    trained = run_cli(
        "train", "resnet_custom", "--data", phantoms, "--epochs", 1, "--lr", 0.0005, cwd=tmp_path
    )
    assert trained.returncode == 0, trained.stderr
    run = tmp_path / "saved_models" / "resnet_custom-ep1-lr0.0005"
    assert "average of 14 findings" in trained.stdout
    assert "say nothing about patients" in trained.stdout
    assert "epoch 1/1" in trained.stderr

    evaluated = run_cli("evaluate", run, "--split", "all", "--out", tmp_path / "all", "--force")
    assert evaluated.returncode == 0, evaluated.stderr
    assert "exact match" in evaluated.stdout
    assert re.search(r"^view +AP ", evaluated.stdout, re.MULTILINE)
    assert len(pd.read_csv(tmp_path / "all" / "predictions.csv")) == 40
    assert len(pd.read_csv(tmp_path / "all" / "metrics.csv")) == 15 + 4 + 2

    images = sorted((phantoms / "images").iterdir())[:2]
    bad = tmp_path / "bad.png"
    bad.write_text("junk")
    predicted = run_cli("predict", run, *images, bad, "--csv", tmp_path / "f.csv", "--json")
    assert predicted.returncode == 1
    records = json.loads(predicted.stdout)
    assert [Path(record["path"]) for record in records] == [*images, bad]
    assert records[2]["error"]
    assert len(records[0]["probabilities"]) == 15
    assert "1 of 3 files could not be read." in predicted.stderr
    assert "trained on phantoms" in predicted.stderr
    table = pd.read_csv(tmp_path / "f.csv")
    assert len(table) == 3
    assert "not a PNG, JPEG or DICOM" in table["error"][2]


@pytest.mark.slow
def test_train_on_real_images(run_cli, sample, tmp_path):
    trained = run_cli(
        "train", "alexnet_custom", "--data", sample, "--epochs", 1, "--per-class", 3, cwd=tmp_path
    )
    assert trained.returncode == 0, trained.stderr
    assert "111,880 of 112,120 images" in trained.stderr
    assert "phantom" not in trained.stdout
    name = "alexnet_custom-ep1-lr0.0005"
    assert (tmp_path / "saved_models" / name / "model.keras").is_file()


@pytest.mark.slow
def test_prepare_plans_the_reports_sample_on_the_table_alone(run_cli, sample, tmp_path):
    planned = run_cli(
        "prepare", sample, "--allow-missing", "--split-method", "paper", "--out", tmp_path
    )
    assert planned.returncode == 0, planned.stderr
    assert "4,427 images: 2,832 train / 709 val / 886 test" in planned.stdout
    assert re.search(r"^Hernia +\d+ +\d+ +\d+ +227$", planned.stdout, re.MULTILINE)
    assert "Patients in two splits: train/val" in planned.stdout
    assert len(pd.read_csv(tmp_path / "manifest.csv")) == 4427
    apart = run_cli("prepare", sample, "--allow-missing", "--out", tmp_path)
    assert "4,427 images: 2,832 train / 709 val / 886 test" in apart.stdout
    assert "No patient is in two splits." in apart.stdout


def test_phantom_writes_a_folder(run_cli, tmp_path):
    drawn = run_cli("phantom", tmp_path / "images", "--count", 2)
    assert drawn.returncode == 0
    assert "say nothing about patients" in drawn.stderr
    assert len(list((tmp_path / "images" / "images").iterdir())) == 2


WRONG_USE = [
    (["train", "no_such_net"], 1, "There is no network called 'no_such_net'"),
    (["train", "alexnet_custom", "--epochs", "-3"], 2, "--epochs"),
    (["train", "alexnet_custom", "--lr", "0"], 2, "--lr"),
    (["train", "alexnet_custom", "--batch-size", "0"], 2, "--batch-size"),
    (["prepare", "nowhere"], 1, "There is no data folder nowhere"),
    (["prepare", "--split-method", "random"], 2, "official"),
    (["evaluate"], 2, "Give either RUN, or both --predictions and --truth"),
    (["evaluate", "nowhere"], 1, "There is no model file nowhere"),
    (["evaluate", "nowhere", "--thresholds", "2"], 2, "neither 'calibrated' nor a number in 0…1"),
    (["calibrate", "nowhere"], 1, "There is no model file nowhere"),
    (["calibrate", "nowhere", "--sensitivity", "0"], 2, "--sensitivity"),
    (["compare", "nowhere", "here"], 1, "There is no nowhere"),
    (["ensemble", "nowhere", "--name", "x"], 1, "nowhere cannot join an ensemble"),
    (["predict", "nowhere", "x.png"], 1, "There is no model file nowhere"),
    (["predict", "nowhere"], 2, "PATHS"),
    (["nonsense"], 2, "nonsense"),
]


@pytest.mark.parametrize(("args", "code", "says"), WRONG_USE)
def test_wrong_use_is_one_sentence(tmp_path, monkeypatch, args, code, says):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, args)
    assert result.exit_code == code
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert not list(tmp_path.iterdir())


def test_wrong_use_of_the_real_program(run_cli, tmp_path):
    result = run_cli("predict", "nowhere", "x.png", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("Error: There is no model file nowhere")
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_debug_shows_the_traceback(run_cli, tmp_path):
    result = run_cli("--debug", "predict", "nowhere", "x.png", cwd=tmp_path)
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "ModelError" in result.stderr


@pytest.mark.slow
def test_pillows_warnings_of_a_file_are_not_printed(run_cli, make_folder):
    """They name no file, so nobody could act on them; here, of an animation that is none."""
    folder = make_folder([(f"{i:02d}.png", "Mass", i) for i in range(10)])
    image = folder / "images" / "00.png"
    content = image.read_bytes()
    size, kind = (8).to_bytes(4, "big"), b"acTL"
    animation = size + kind + bytes(8) + zlib.crc32(kind + bytes(8)).to_bytes(4, "big")
    image.write_bytes(content[:33] + animation + content[33:])  # after the header
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        read_image(image)
    assert warned
    result = run_cli("prepare", folder)
    assert result.returncode == 0
    assert "Warning" not in result.stderr
