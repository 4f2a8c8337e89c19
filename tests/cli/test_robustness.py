"""What a person sees when things go wrong: the real program, real files, real limits."""

import dataclasses
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from functools import partial

import numpy as np
import pandas as pd
import pytest

from cxr_keras import calibrate, load_model, predict, train
from cxr_keras.data.images import read_image
from cxr_keras.data.preparation import prepare
from cxr_keras.errors import CxrError, ModelError, RunError
from cxr_keras.runs import model_file, run_folder

SETPRIV = shutil.which("setpriv")
TABLE = "Data_Entry_2017_v2020.csv"


def cxr(*args, limit=None, obey_rights=False, cwd=None, **environment):
    """`cxr-keras …` as a process; `limit` is the largest file in bytes that it may write.

    `obey_rights` takes root's right to pass over permissions away.
    """
    command = [sys.executable, "-m", "cxr_keras", *map(str, args)]
    if obey_rights and os.geteuid() == 0:
        without = "--{}=-dac_override,-dac_read_search"
        command = [SETPRIV, *(without.format(s) for s in ("bounding-set", "inh-caps")), *command]

    def set_limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | environment,
        preexec_fn=set_limit if limit else None,
        timeout=120,
        check=False,
    )


def assert_one_sentence(result, *says):
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    error = next(line for line in result.stderr.splitlines() if line.startswith("Error: "))
    for text in says:
        assert text in error, error


needs_rights = pytest.mark.skipif(
    os.geteuid() == 0 and SETPRIV is None, reason="root passes over rights, and setpriv is missing"
)


# --- disk ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_disk_that_fills_while_saving_leaves_the_old_file_whole(phantoms, tmp_path):
    options = ["train", "resnet_custom", "--data", phantoms, "--epochs", 1, "--name", "r"]
    assert cxr(*options, cwd=tmp_path).returncode == 0
    file = tmp_path / "saved_models" / "r" / "model.keras"
    before = file.read_bytes()
    code = (
        "import resource; from cxr_keras.runs import model_file; from pathlib import Path\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
        f"file = Path({str(file)!r}); model_file.replace_card(file, model_file.read_card(file))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "model.keras cannot be written (File too large). Make room" in result.stderr
    assert file.read_bytes() == before
    assert {p.name for p in file.parent.iterdir() if p.name.endswith(".tmp")} == set()
    again = cxr(*options, "--overwrite", limit=1_000_000, cwd=tmp_path)
    assert_one_sentence(again, "cannot be written (File too large)")
    assert file.read_bytes() == before  # the run that was to be replaced
    assert [path.name for path in file.parent.parent.iterdir()] == ["r"]


def test_a_disk_that_fills_under_the_pixel_store(phantoms, tmp_path, monkeypatch):
    own = tmp_path / "cache"
    result = cxr("prepare", phantoms, limit=500_000, CXR_KERAS_CACHE=str(own))
    assert_one_sentence(result, "The pixel store", "cannot be written", "set $CXR_KERAS_CACHE")
    monkeypatch.setenv("CXR_KERAS_CACHE", str(own))  # with room again, it goes on where it stopped
    prepared = prepare(phantoms)
    for _, row in prepared.manifest.iterrows():
        np.testing.assert_array_equal(prepared.store.pixels[row["row"]], read_image(row["path"]))


def test_a_disk_that_fills_under_the_phantoms(tmp_path):
    result = cxr("phantom", tmp_path / "new", "--count", 2, limit=10_000)
    assert_one_sentence(result, "Phantoms cannot be written to", "on a disk with room")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_disk_that_fills_under_the_feature_store(phantoms, tmp_path):
    from helpers.torchvision_nets import original

    torch = pytest.importorskip("torch")
    torch.save(original("resnet18").state_dict(), tmp_path / "resnet18.pth")
    cache = tmp_path / "cache"
    assert cxr("prepare", phantoms, CXR_KERAS_CACHE=str(cache)).returncode == 0
    options = ["train", "resnet18", "--data", phantoms, "--weights", tmp_path / "resnet18.pth"]
    options += ["--epochs", 1, "--output-dir", tmp_path]
    full = cxr(*options, limit=60_000, CXR_KERAS_CACHE=str(cache))
    assert_one_sentence(full, str(cache / "features"), "Make room", "--no-feature-cache does")
    assert not [path for path in (cache / "features").iterdir() if path.is_dir()]
    again = cxr(*options, "--resume", CXR_KERAS_CACHE=str(cache))
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
def test_a_disk_that_fills_under_the_checkpoint_leaves_the_old_one_whole(phantoms, tmp_path):
    options = ["train", "resnet_custom", "--data", str(phantoms), "--epochs", "3", "--name", "r"]
    options += ["--checkpoint-every", "1", "--output-dir", str(tmp_path)]
    file = tmp_path / "r" / "checkpoint.npz"
    killed_when([sys.executable, "-m", "cxr_keras", *options], file.exists, dict(os.environ))
    before = file.read_bytes()
    full = cxr(*options, "--resume", limit=len(before) // 2)
    assert_one_sentence(full, "checkpoint.npz cannot be written (File too large). Make room")
    assert file.read_bytes() == before
    again = cxr(*options, "--resume")
    assert again.returncode == 0, again.stderr
    assert list(pd.read_csv(tmp_path / "r" / "history.csv")["epoch"]) == [1, 2, 3]


# --- rights -------------------------------------------------------------------------------------


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


# --- files that are no model --------------------------------------------------------------------


def rebuilt(source, target, **members):
    """A copy of a `.keras` file with members replaced by text (None leaves one out)."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            if name not in members:
                new.writestr(name, old.read(name))
        for name, content in members.items():
            if content is not None:
                new.writestr(name, content)
    return target


def lambda_model(path):
    import keras

    pixels, trace = keras.Input((256, 256, 1)), f"touch {path}.ran"
    x = keras.layers.Lambda(lambda t: (t, __import__("os").system(trace))[0])(pixels)
    path.with_name(f"{path.name}.ran").unlink()  # building ran it, as it should; loading must not
    x = keras.layers.Dense(15)(keras.layers.GlobalAveragePooling2D()(x))
    keras.Model(pixels, x).save(path)


def other_model(path):
    import keras

    pixels = keras.Input((32, 32, 3))
    keras.Model(pixels, keras.layers.Flatten()(pixels)).save(path)


def custom_layer_model(run, path):
    with zipfile.ZipFile(run.folder / "model.keras") as archive:
        config = archive.read("config.json").decode()
    config = config.replace('"class_name": "ReLU"', '"class_name": "Evil"', 1)
    config = config.replace('"module": "keras.layers"', '"module": "os"')
    rebuilt(run.folder / "model.keras", path, **{"config.json": config})


def card_of(run, **changes):
    with zipfile.ZipFile(run.folder / "model.keras") as archive:
        return json.dumps(json.loads(archive.read("card.json")) | changes)


class Runs:
    """What a pickle can do when it is opened."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


def pickled_weights(run, path):
    values = io.BytesIO()
    np.savez(values, **{"layers/conv1": np.array([Runs(f"{path}.ran")], dtype=object)})
    members = {"model.weights.h5": None, "model.weights.npz": values.getvalue()}
    rebuilt(run.folder / "model.keras", path, **members)


BAD_MODELS = {
    "with pickled weights": (pickled_weights, "cannot be loaded as a Keras model"),
    "truncated": (
        lambda run, path: path.write_bytes((run.folder / "model.keras").read_bytes()[:-3000]),
        "is not a .keras file, or it is cut short",
    ),
    "text": (lambda run, path: path.write_text("hello"), "is not a .keras file"),
    "empty": (lambda run, path: path.write_bytes(b""), "is not a .keras file"),
    "another zip": (
        lambda run, path: zipfile.ZipFile(path, "w").writestr("a.txt", "a"),
        "cannot be loaded as a Keras model",
    ),
    "another application's": (lambda run, path: other_model(path), "is not a cxr-keras network"),
    "with a Lambda": (lambda run, path: lambda_model(path), "cannot be loaded as a Keras model"),
    "with a class of no Keras": (custom_layer_model, "cannot be loaded as a Keras model"),
    "of a newer version": (
        lambda run, path: rebuilt(
            run.folder / "model.keras",
            path,
            **{"card.json": card_of(run, format="cxr-keras card 9")},
        ),
        "a newer cxr-keras may have written it",
    ),
    "with a card of other labels": (
        lambda run, path: rebuilt(
            run.folder / "model.keras",
            path,
            **{"card.json": card_of(run, labels=["Mass", "Edema"], thresholds=[0.5, 0.5])},
        ),
        "gives 15 outputs; expected (N, 256, 256, 1) and 2",
    ),
    "with a card of nonsense": (
        lambda run, path: rebuilt(run.folder / "model.keras", path, **{"card.json": "[1]"}),
        "holds a card that cannot be read",
    ),
    "with a card of other diseases": (
        lambda run, path: rebuilt(
            run.folder / "model.keras",
            path,
            **{"card.json": card_of(run, labels=["Cold", "Flu"], thresholds=[0.5, 0.5])},
        ),
        "its labels are not those of ChestX-ray14",
    ),
    "with a card of thresholds beyond 1": (
        lambda run, path: rebuilt(
            run.folder / "model.keras", path, **{"card.json": card_of(run, thresholds=[1.5] * 15)}
        ),
        "its thresholds are not numbers in 0…1",
    ),
    "with a card of impossible scaling": (
        lambda run, path: rebuilt(
            run.folder / "model.keras",
            path,
            **{
                "card.json": card_of(
                    run, scaling={"method": "platt", "slope": [-1.0] * 15, "shift": [0.0] * 15}
                )
            },
        ),
        "slopes must be finite and above 0",
    ),
    "with a card of other thresholds": (
        lambda run, path: rebuilt(
            run.folder / "model.keras", path, **{"card.json": card_of(run, thresholds=[0.5])}
        ),
        "has not one threshold a label",
    ),
}


@pytest.mark.parametrize("kind", BAD_MODELS)
def test_a_file_that_is_no_network_of_ours_is_refused_unopened(run, phantoms, tmp_path, kind):
    make, says = BAD_MODELS[kind]
    path = tmp_path / "bad.keras"
    make(run, path)
    with pytest.raises(ModelError) as caught:
        predict(path, [phantoms / "images"])
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "bad.keras.ran").exists()


# --- training -----------------------------------------------------------------------------------


def test_a_loss_that_is_nan_stops_and_says_which_rate_to_try(
    tiny_model, phantoms, tmp_path, capsys
):
    with pytest.raises(RunError, match=r"NaN or infinite in epoch 1.*--lr 1e\+36"):
        train(
            tiny_model, phantoms, epochs=3, lr=1e37, folder=str(tmp_path), name="bad",
            checkpoint_every=1,
        )  # fmt: skip
    assert not (tmp_path / "bad" / "model.keras").exists()
    assert not (tmp_path / "bad" / "checkpoint.npz").exists()


def test_the_best_epoch_before_a_nan_is_kept(tiny_model, phantoms, tmp_path, capsys, monkeypatch):
    """A rate that ruins the weights in the third epoch."""
    import keras

    from cxr_keras.training.callbacks import EpochSeed

    begin = EpochSeed.on_epoch_begin

    def ruin(self, epoch, logs=None):
        begin(self, epoch, logs)
        if epoch == 2:
            weight = self.model.trainable_variables[0]
            weight.assign(keras.ops.full(weight.shape, float("nan")))

    monkeypatch.setattr(EpochSeed, "on_epoch_begin", ruin)
    run = train(tiny_model, phantoms, epochs=6, lr=0.002, folder=str(tmp_path))
    assert "NaN or infinite in epoch 3, so training stops. Try --lr 0.0002" in (
        capsys.readouterr().err
    )
    assert len(run.history) == 3
    assert run.info["diverged"] is True
    assert run.info["best_epoch"] in (1, 2)
    assert all(np.isfinite(weight).all() for weight in load_model(run.folder).get_weights())


@pytest.mark.slow
def test_two_trainings_of_one_name_do_not_harm_each_other(
    tiny_model, phantoms, tmp_path, monkeypatch
):
    """While another process holds the folder, each way to train in it is refused."""
    folder = tmp_path / "same"
    options = {"epochs": 1, "folder": str(tmp_path), "name": "same"}
    train(tiny_model, phantoms, **options)
    info = run_folder.read_run(folder)
    run_folder.write_run(folder, info | {"status": "running"})
    code = (
        "import sys, time; from pathlib import Path\n"
        "from cxr_keras.runs.run_folder import hold_folder\n"
        "with hold_folder(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(folder)]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    before = (folder / "model.keras").read_bytes()
    for how in ("overwrite", "resume"):
        with pytest.raises(RunError, match="Another process is working in"):
            train(tiny_model, phantoms, **options, **{how: True})
    with pytest.raises(RunError, match="Another process is working in"):
        calibrate(folder, resamples=0)
    assert (folder / "model.keras").read_bytes() == before
    other.kill()
    other.wait()
    train(tiny_model, phantoms, resume=True, **options)
    assert run_folder.read_run(folder)["status"] == "done"


@pytest.mark.slow
def test_what_cannot_start_overwrites_nothing(tiny_model, phantoms, tmp_path):
    options = {"epochs": 1, "folder": str(tmp_path), "name": "kept", "overwrite": True}
    train(tiny_model, phantoms, **options)
    before = (tmp_path / "kept" / "model.keras").read_bytes()
    with pytest.raises(CxrError, match="There is no data folder"):
        train(tiny_model, tmp_path / "nowhere", **options)
    assert (tmp_path / "kept" / "model.keras").read_bytes() == before
    (tmp_path / "empty").mkdir()
    train(tiny_model, phantoms, epochs=1, folder=str(tmp_path), name="empty")


def test_resuming_on_other_data_is_refused(tiny_model, make_folder, tmp_path):
    """Else an image that was trained on could lie in the test split of the resumed run."""
    rows = [(f"{i:02d}.png", "Mass", i) for i in range(20)]
    folder = make_folder(rows)
    options = {"epochs": 1, "folder": str(tmp_path / "runs"), "name": "r"}
    train(tiny_model, folder, **options)
    run = tmp_path / "runs" / "r"
    run_folder.write_run(run, run_folder.read_run(run) | {"status": "running"})
    make_folder([*rows, ("99.png", "Edema", 99)])
    with pytest.raises(RunError, match="The data changed since"):
        train(tiny_model, folder, resume=True, **options)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "has no image that its table"),
        ([("a.png", "Mass", 1)], "leaves .* without an image"),
    ],
)
def test_data_too_few_to_train_on_are_a_sentence(make_folder, tiny_model, tmp_path, rows, says):
    folder = make_folder(rows)
    with pytest.raises(CxrError, match=says):
        train(tiny_model, folder, epochs=1, folder=str(tmp_path / "runs"))


def test_one_class_no_positives_and_a_batch_larger_than_the_set(
    make_folder, tiny_model, tmp_path, capsys
):
    """A folder in which every image is normal trains, and its table says what is undefined."""
    folder = make_folder([(f"{i:02d}.png", "No Finding", i) for i in range(12)])
    run = train(tiny_model, folder, epochs=1, batch_size=500, folder=str(tmp_path / "runs"))
    table = run.metrics.set_index("label")
    assert table.loc[["Mass", "No Finding"], "auroc"].isna().all()
    assert np.isnan(table.loc["average of 14 findings", "auroc"])
    assert set(model_file.read_card(run.folder).thresholds) == {0.5}
    assert "keep the threshold 0.5" in capsys.readouterr().err
    assert (
        pd.read_csv(run.folder / "metrics.csv")["support"].iloc[:15].sum()
        == run.info["data"]["sizes"]["test"]
    )


def test_a_file_name_that_is_no_text_is_a_row(run, phantoms, tmp_path):
    image = os.fsencode(tmp_path) + b"/f\xff.png"
    shutil.copy(next((phantoms / "images").iterdir()), os.fsdecode(image))
    rows = predict(run.folder, [tmp_path], csv_file=tmp_path / "f.csv")
    assert not rows[0].error
    assert pd.read_csv(tmp_path / "f.csv")["path"][0].endswith("f\\udcff.png")


def test_heat_maps_of_two_images_of_one_name_are_two_files(run, phantoms, tmp_path):
    file = shutil.copy(run.folder / "model.keras", tmp_path)
    card = dataclasses.replace(model_file.read_card(file), thresholds=(1.0,) * 15)
    model_file.replace_card(
        tmp_path / "model.keras", card
    )  # one map per image: nothing is predicted
    first, second = sorted((phantoms / "images").iterdir())[:2]
    for folder, image in (("a", first), ("b", second)):
        (tmp_path / folder).mkdir()
        shutil.copy(image, tmp_path / folder / "1.png")
    shutil.copy(first, tmp_path / "b" / "2.png")
    predict(file, [tmp_path], heatmaps=tmp_path / "maps")
    images = {path.name.rsplit(".", 2)[0] for path in (tmp_path / "maps").iterdir()}
    assert images == {"a__1.png", "b__1.png", "2"}


# --- Ctrl-C -------------------------------------------------------------------------------------


def obey_ctrl_c():
    """Tests that run in the background of a shell inherit that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.parametrize("job", ["train", "prepare", "predict"])
def test_ctrl_c_ends_at_once_with_130_and_keeps_what_was_done(run, phantoms, tmp_path, job):
    images = tmp_path / "images"
    images.mkdir()
    drawn = sorted((phantoms / "images").iterdir())
    names = [f"{i:08d}_000.png" for i in range(3000)]
    for i, name in enumerate(names):
        (images / name).hardlink_to(drawn[i % len(drawn)])
    command = {
        "train": ["train", "resnet_custom", "--data", phantoms, "--epochs", "500"],
        "prepare": ["prepare", tmp_path],
        "predict": ["predict", run.folder, images, "--csv", tmp_path / "f.csv"],
    }[job]
    if job == "prepare":
        images.rename(tmp_path / "images")
        rows = [f"{name},Mass,{i}" for i, name in enumerate(names)]
        (tmp_path / TABLE).write_text("\n".join(["Image Index,Finding Labels,Patient ID", *rows]))
    own = tmp_path / "cache"
    process = subprocess.Popen(
        [sys.executable, "-m", "cxr_keras", *map(str, command), "--per-class", "9999"][
            : None if job == "prepare" else -2
        ],
        cwd=tmp_path,
        env=os.environ | {"CXR_KERAS_CACHE": str(own)},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=obey_ctrl_c,
    )
    if job == "train":
        while not process.stderr.readline().startswith("epoch 2/"):
            assert process.poll() is None
    elif job == "prepare":
        while not list(own.glob("pixels/*/pixels.raw")):
            assert process.poll() is None
            time.sleep(0.01)
    else:
        while not any(path.read_text().count("\n") > 20 for path in tmp_path.glob(".f.csv.*")):
            assert process.poll() is None
            time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 130, said
    assert "Interrupted; what was finished is kept" in said
    assert "Traceback" not in said
    assert not (tmp_path / "f.csv").exists()
    assert not list(own.glob("*/.*.tmp"))
    if job == "predict":
        kept = pd.read_csv(tmp_path / "f.partial.csv")
        assert 20 <= len(kept) < len(names)
        assert list(kept["path"]) == [str(images / name) for name in names[: len(kept)]]
        assert f"{len(kept):,} rows are kept in" in said
        assert not list(tmp_path.glob(".f.csv.*"))
    if job == "train":
        folder = tmp_path / "saved_models" / "resnet_custom-ep500-lr0.0005-phantoms"
        assert len(pd.read_csv(folder / "history.csv")) >= 1
        assert not list(folder.glob(".*.tmp"))


# --- kill -9 ------------------------------------------------------------------------------------

FEATURES = """
import sys
from cxr_keras import train
train("resnet18", {data!r}, weights={weights!r}, epochs=1, per_class=2, folder={folder!r},
      resume="resume" in sys.argv)
"""


def killed_when(command, happens, environment):
    """Start `command` and kill -9 it as soon as `happens`."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet)
    deadline = time.monotonic() + 90
    while not (happened := happens()) and time.monotonic() < deadline:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.002)
    assert happened
    process.send_signal(signal.SIGKILL)
    process.wait()


def list_features(cache):
    return list(cache.glob("features/.*.tmp/features.npy"))


@pytest.mark.slow
def test_killed_while_the_frozen_part_is_stored(phantoms, tmp_path):
    from helpers.torchvision_nets import original

    torch = pytest.importorskip("torch")
    weights = tmp_path / "resnet18.pth"
    torch.manual_seed(1)
    torch.save(original("resnet18").state_dict(), weights)
    folders = {name: tmp_path / name for name in ("whole", "killed")}
    runs = {}
    for name, folder in folders.items():
        code = FEATURES.format(data=str(phantoms), weights=str(weights), folder=str(folder))
        command = [sys.executable, "-c", code]
        cache = tmp_path / f"cache-{name}"
        environment = os.environ | {"CXR_KERAS_CACHE": str(cache)}
        if name == "killed":
            stored = partial(list_features, cache)
            killed_when(command, stored, environment)
            assert not [p for p in (cache / "features").iterdir() if p.suffix == ""]
            command.append("resume")
        subprocess.run(command, env=environment, check=True, capture_output=True)
        runs[name] = next(folder.iterdir())
        assert not list(cache.glob("features/.*.tmp"))
    first, second = (pd.read_csv(runs[n] / "history.csv").drop(columns="seconds") for n in runs)
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.slow
def test_killed_while_the_checkpoint_is_written(phantoms, tmp_path):
    """Whenever the kill comes, the checkpoint under the final name is whole, and resumes."""
    options = ["train", "alexnet_custom", "--data", str(phantoms), "--epochs", "2", "--name", "r"]
    options += ["--checkpoint-every", "1", "--per-class", "2", "--output-dir", str(tmp_path)]
    command = [sys.executable, "-m", "cxr_keras", *options]
    whole = tmp_path / "r" / "checkpoint.npz"

    def second_is_being_written():
        return whole.exists() and list(whole.parent.glob(".checkpoint.npz.*.tmp"))

    killed_when(command, second_is_being_written, dict(os.environ))
    assert np.load(whole)["state"].size
    resumed = cxr(*options, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "Resuming after epoch 1 of 2" in resumed.stderr
    straight = cxr(*[o if o != "r" else "straight" for o in options])
    assert straight.returncode == 0, straight.stderr
    pd.testing.assert_frame_equal(
        *(
            pd.read_csv(tmp_path / name / "history.csv").drop(columns="seconds")
            for name in ("r", "straight")
        )
    )
    assert not list((tmp_path / "r").glob(".*.tmp"))
