"""Sentences that no other test reads: what was wrong, what was received, what to do."""

import keras
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from cxr_keras import compare
from cxr_keras.cli import main
from cxr_keras.data.images import read_image
from cxr_keras.data.labels import LABELS
from cxr_keras.data.preparation import prepare
from cxr_keras.errors import CxrError, ImageError, ModelError
from cxr_keras.evaluation.predictions_file import evaluate_predictions
from cxr_keras.inference.grad_cam import grad_cam
from cxr_keras.metrics.calibration import Scaling
from cxr_keras.metrics.per_label import label_table

NAN = np.full((4, 15), np.nan)


def predictions(path, label):
    columns = {f"prob_{label}": [0.5, 0.5], f"true_{label}": [0, 1]}
    pd.DataFrame({"Image Index": ["a.png", "b.png"], **columns}).to_csv(path, index=False)
    return path


def test_what_is_no_probability():
    with pytest.raises(CxrError, match=r"must lie in 0…1; they hold NaN, inf.*a sigmoid, not log"):
        label_table(np.zeros((4, 15)), NAN, labels=LABELS)
    with pytest.raises(CxrError, match=r"must lie in 0…1; they hold NaN or other.*not logits"):
        Scaling("none", (1.0,) * 15, (0.0,) * 15).apply(NAN)


def test_no_label_in_common(tmp_path):
    files = [predictions(tmp_path / f"{name}.csv", name) for name in ("Mass", "Edema")]
    with pytest.raises(CxrError, match=r"no label in common\. Name two that predict the same"):
        compare(*files)


def test_an_image_twice_names_the_image_and_the_remedy(tmp_path, phantoms):
    table = pd.read_csv(predictions(tmp_path / "p.csv", "Mass"))
    pd.concat([table, table]).to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(CxrError, match=r"2 images twice, such as a\.png\. Keep one row per image"):
        evaluate_predictions(tmp_path / "p.csv", phantoms / "Data_Entry_2017_v2020.csv")


def test_nothing_to_explain():
    pixels = keras.Input((256, 256, 1))
    logits = keras.layers.Dense(15, name="logits")(keras.layers.Flatten()(pixels))
    model = keras.Model(pixels, logits)
    with pytest.raises(ModelError, match=r"no convolutional layer to explain\. Leave --heatmaps"):
        grad_cam(model, np.zeros((256, 256), "uint8"), [0])


def test_the_official_split_needs_its_lists(make_folder):
    folder = make_folder([(f"{i:02d}.png", "Mass", i) for i in range(12)])
    with pytest.raises(CxrError, match=r"needs train_val_list\.txt and test_list\.txt"):
        prepare(folder, split_method="official")


def test_a_thread_is_no_radiograph(tmp_path):
    Image.new("L", (3000, 1)).save(tmp_path / "thread.png")
    with pytest.raises(ImageError, match=r"thread\.png: 3000×1 is too narrow .*crop it first"):
        read_image(tmp_path / "thread.png")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["evaluate", "--thresholds", "calibrated"], "calibrated needs a RUN; give a number."),
        (["evaluate", "--split", "val"], "--split belongs to a RUN; leave it out."),
        (["download", "D", "--metadata-only", "--archives", "1"], "fetches no archives; leave"),
    ],
)
def test_options_that_do_not_fit(tmp_path, args, says):
    file = str(predictions(tmp_path / "p.csv", "Mass"))
    if args[0] == "evaluate":
        args = [*args, "--predictions", file, "--truth", file]
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 2
    assert says in result.output
