"""What a model file says of the machine and the images it was made on."""

import json
import os
import zipfile

import pytest
from helpers.model_files import read_member

from cxr_keras import calibrate, ensemble, evaluate, train
from cxr_keras.runs import model_file, run_folder

LISTS = (model_file.TRAINED_ON, model_file.TUNED_ON)


@pytest.mark.slow
def test_no_path_of_this_machine_is_in_a_model_file(
    many_labels_run, many_copy, many_labels, tmp_path
):
    both = ensemble([many_labels_run.folder, many_copy], name="both", folder=tmp_path, resamples=0)
    calibrate(many_copy, method="platt", resamples=0)
    for folder in (many_labels_run.folder, both.folder, many_copy):
        with zipfile.ZipFile(folder / "model.keras") as archive:
            for name in archive.namelist():
                for part in (many_labels.parent, many_labels_run.folder.parent, tmp_path):
                    assert os.fsencode(part) not in archive.read(name), (name, part)
        card = json.loads(read_member(folder, "card.json"))
        assert card["data"]["root"] == "labels"
    members = json.loads(read_member(both.folder, "card.json"))["settings"]["members"]
    assert [member["run"] for member in members] == [many_labels_run.folder.name, "copy"]
    info = run_folder.read_run(both.folder)
    assert info["data"]["root"] == str(many_labels)
    assert info["settings"]["members"][1]["run"] == str(many_copy)


@pytest.mark.slow
def test_training_without_provenance_lists_no_image(many_labels, tiny_model, tmp_path, capsys):
    runs = [
        train(tiny_model, many_labels, epochs=1, lr=lr, provenance=False, folder=str(tmp_path))
        for lr in (0.01, 0.02)
    ]
    both = ensemble([run.folder for run in runs], name="both", folder=tmp_path, resamples=0)
    calibrate(runs[0].folder, method="platt", resamples=0)
    for folder in (runs[0].folder, both.folder):
        with zipfile.ZipFile(folder / "model.keras") as archive:
            assert not set(LISTS) & set(archive.namelist())
        evaluate(folder, resamples=0)
        assert "does not say which images it was trained on" in capsys.readouterr().err
