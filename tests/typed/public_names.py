"""Every public name, used as Python users use it; `.ci/run` holds it against `mypy --strict`.

It is checked and never run: what it says is that these calls, with these types, are right. A call
that is wrong fails there; the package behind the calls is what plain `mypy` checks.
"""

from __future__ import annotations

import os
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from cxr_keras import (
    FINDINGS,
    LABELS,
    CxrError,
    Dataset,
    LabelSet,
    LabelTable,
    __version__,
    assess,
    build_model,
    calibrate,
    compare,
    ensemble,
    evaluate,
    explore,
    load_model,
    localize,
    predict,
    register_dataset,
    register_model,
    train,
    tune,
)


@register_model(source="a typed script", blocks=("conv1",))
def small(x: keras.KerasTensor) -> keras.KerasTensor:
    x = keras.layers.Conv2D(8, 3, strides=4, name="conv1")(x)
    return keras.layers.GlobalAveragePooling2D(name="pool")(x)


@register_dataset(lambda folder: (folder / "clinic.csv").is_file())
def clinic(folder: Path) -> LabelTable:
    """Our clinic: clinic.csv."""
    table = pd.read_csv(folder / "clinic.csv")
    truth = table[["Edema"]].to_numpy("int8")
    return LabelTable(table, truth, LabelSet(("Edema",)), notices=("Read.",))


def many_sources(path: Path, table: pd.DataFrame) -> tuple[str, ...]:
    own = Dataset.from_table(table, path, labels=["Edema", "No Finding"])
    made = Dataset.from_table(
        table,
        lambda name: np.zeros((64, 64), "uint8"),
        labels=LabelSet(("Edema", "Normal"), normal="Normal"),
        patient_column=None,
    )
    train("small", [own, path, "data/nih"], labels="shared", uncertain="ones", views="PA,AP")
    train("small", made, labels=["Edema"], epochs=1)
    train("small", table=path / "labels.csv", images=path, label_columns=["A", "B"])
    evaluate(path, own, format="nih", truth=path / "radiologists.csv")
    explore(own, views=("PA", "L"))
    return made.labels.names


def look(folder: str, path: Path, anything: os.PathLike[str]) -> tuple[int, float]:
    found = explore(folder, out=path)
    explore(path, on_disk=True)
    explore(anything, out=anything)
    return found.images, found.multiple_share


def train_as_people_do(path: Path) -> Path:
    by_name = train("small", "data/nih", epochs=30, lr=5e-4, fine_tune="all", name="r")
    train("resnet18", path, fine_tune=1, weights=path / "resnet18.pth", folder=path)
    train("resnet18", weights="imagenet", split_method="official", callbacks=(), resume=True)
    built: keras.Model = build_model("small", outputs=len(LABELS), size=320, fit="whole")
    stop = keras.callbacks.EarlyStopping(patience=3)
    train(built, path, callbacks=[stop], size=np.int64(320), fit="whole", overwrite=True)
    train(
        "small",
        epochs=np.int64(3),
        lr=np.float32(1e-3),
        batch_size=np.int32(8),
        per_class=np.uint8(200),
        val_share=np.float64(0.1),
        test_share=0,
        seed=np.int64(1),
        checkpoint_every=np.int64(1),
    )
    table: pd.DataFrame = by_name.metrics
    print(table, by_name.history, by_name.info["best_epoch"], by_name.evaluation.loss)
    return by_name.folder


def measure(run: Path, other: str) -> dict[str, float]:
    found = evaluate(run, thresholds=0.5, resamples=0)
    evaluate(other, run, split="all", out=run / "all", force=True)
    evaluate(run, thresholds=np.float64(0.3))
    calibrate(run, method="platt", sensitivity=np.float64(0.9), resamples=200)
    averaged = ensemble([run, other], name="both", weighted=True, folder=run.parent)
    difference: pd.DataFrame = compare(run, averaged.folder, resamples=100, seed=3)
    print(difference)
    print(localize(run, path_to_boxes := run.parent, method="hirescam", tta="flip").table)
    localize(other, split="val", layer="conv1", resamples=0, out=path_to_boxes, force=True)
    tables = assess(found.predictions, thresholds={"Mass": 0.2}, resamples=0)
    print(tables.images, tables.metrics)
    return tables.thresholds


def find(run: str, images: list[Path]) -> list[str]:
    rows = predict(run, images[0], csv_file="findings.csv")
    rows += predict(Path(run), "folder", heatmaps=Path("maps"), resolve_no_finding=True)
    rows += predict(run, [*images, "another.png"])
    rows += predict(run, (path for path in images))
    return [f"{row.path}: {row.error or row.findings} {row.probabilities}" for row in rows]


def outputs(run: Path) -> tuple[str, ...]:
    model: keras.Model = load_model(run)
    try:
        load_model(str(run))
    except CxrError as error:
        print(f"cxr-keras {__version__}: {error}", model.output_shape)
    return FINDINGS


def search(data: Path) -> dict[str, object]:
    found = tune("resnet18", data, trials=np.int64(3), minutes=10, lr=1e-3, name="s", resume=True)
    print(found.trials, found.importance, found.folder / "best.json")
    return found.settings
