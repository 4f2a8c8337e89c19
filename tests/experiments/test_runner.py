"""How the grid of the report's runs is run."""

import json
import signal
import subprocess
import sys

import pytest
import reproduce
import runner
from helpers.experiments import EXPERIMENTS, script
from helpers.processes import wait_until
from report import grid, results

from cxr_keras import CxrError


def fake_trainer(calls):
    """Fails as networks fail; the last one makes its run."""

    def trainer(plan, data, folder):
        calls.append(plan.table)
        if plan.table == "C1":
            raise CxrError("There is no network called 'alexnet'.")
        if plan.table == "C2":
            raise RuntimeError("out of memory")
        (folder / plan.name).mkdir()
        (folder / plan.name / "model.keras").write_text("weights")
        content = {"model": plan.model, "data": str(data)} | plan.settings
        content["split"] = content.pop("split_method")  # its name in run.json
        info = {"status": "done", "settings": content}
        (folder / plan.name / "run.json").write_text(json.dumps(info))

    return trainer


def test_a_failed_run_is_reported_and_does_not_stop_the_others(tmp_path, capsys):
    calls, plans = [], grid.choose("C1,C2,C7")
    options = {"trainer": fake_trainer(calls), "keep_models": False}
    failed = runner.run_grid(plans, tmp_path, tmp_path / "runs", **options)
    assert calls == ["C1", "C2", "C7"]
    assert failed == {
        plans[0].name: "There is no network called 'alexnet'.",
        plans[1].name: "out of memory",
    }
    assert not (tmp_path / "runs" / plans[2].name / "model.keras").exists()
    again = runner.run_grid(plans, tmp_path, tmp_path / "runs", **options)
    assert calls[3:] == ["C1", "C2"]  # what is done is skipped, what failed is tried again
    assert again == failed
    said = capsys.readouterr().err
    assert f"{plans[2].name} is done: skipped." in said
    assert "Grid ████" in said
    assert "left" in said
    found = results.read_report(tmp_path, "runs", tuple(plans))
    assert found.failed[plans[0].name] == failed[plans[0].name]


def test_a_run_with_other_settings_is_neither_skipped_nor_overwritten(tmp_path):
    calls, plans = [], grid.choose("C7")
    trainer = fake_trainer(calls)
    assert not runner.run_grid(plans, tmp_path, tmp_path / "runs", trainer=trainer)
    elsewhere = tmp_path / "other data"
    failed = runner.run_grid(plans, elsewhere, tmp_path / "runs", trainer=trainer)
    assert "with other settings" in failed[plans[0].name]
    assert calls == ["C7"]


def test_ctrl_c_stops_the_grid(tmp_path):
    def trainer(plan, data, folder):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.run_grid(grid.PLANS, tmp_path, tmp_path / "runs", trainer=trainer)


def test_the_command_ends_with_the_failures_and_1(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reproduce, "count_images", lambda *_, **__: tmp_path)
    monkeypatch.setattr(reproduce, "run_grid", lambda *_, **__: {"C1-alexnet": "no memory"})
    monkeypatch.setattr(reproduce, "write_report", lambda report: None)
    assert reproduce.main(["--quick", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.endswith("failed: C1-alexnet: no memory\n")
    assert reproduce.main(["--only", "C1,nonsense"]) == 1
    assert "The grid has no 'nonsense'" in capsys.readouterr().err


def test_weights_are_found_by_either_name(tmp_path):
    (tmp_path / "resnet18-f37072fd.pth").touch()
    resnet, alexnet = grid.choose("C5,C1")[::-1]
    assert grid.with_weights(resnet, tmp_path).weights.endswith("resnet18-f37072fd.pth")
    with pytest.raises(CxrError, match=r"no weights of alexnet: expected alexnet\.pth"):
        grid.with_weights(alexnet, tmp_path)
    (tmp_path / "alexnet.pth").touch()
    assert grid.with_weights(alexnet, tmp_path).weights.endswith("alexnet.pth")


@pytest.mark.slow
def test_a_failure_in_a_process_of_its_own_comes_back_as_a_sentence(tmp_path, phantoms):
    plan = grid.Plan("C1", "no_such_net", 1, 0.001, per_class=2)
    failed = runner.run_grid([plan], phantoms, tmp_path)
    assert "There is no network called 'no_such_net'" in failed[plan.name]


@pytest.mark.slow
def test_a_killed_grid_goes_on_where_it_was(tmp_path, phantoms):
    command = ["--quick", "--data", phantoms, "--only", "C12", "--out", tmp_path]
    first = subprocess.Popen(
        [sys.executable, EXPERIMENTS / "reproduce.py", *map(str, command)], stderr=subprocess.PIPE
    )
    folder = tmp_path / "runs-quick" / "C12-resnet_custom-ep2-lr0.0005"
    wait_until((folder / "run.json").exists, first)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)  # until its run, which holds the same stderr, has ended with it
    assert json.loads((folder / "run.json").read_text())["status"] == "running"
    again = script(*command)
    assert again.returncode == 0, again.stderr
    assert json.loads((folder / "run.json").read_text())["status"] == "done"
    assert not (folder / "model.keras").exists()
    assert "is done: skipped" in script(*command).stderr
    assert 'id="examples"' in (tmp_path / "index.html").read_text(encoding="utf-8")
    assert (tmp_path / "figures" / "examples.png").exists()
