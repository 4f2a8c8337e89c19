"""`calibrate`: other thresholds and scaling for a trained network, from its validation split."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from cxr_keras import artifacts, assessment
from cxr_keras.calibration import fit_scaling
from cxr_keras.data import sampling
from cxr_keras.errors import ModelError
from cxr_keras.evaluation import Evaluation, data_of, evaluate, frame_of, predict_side
from cxr_keras.progress import notice
from cxr_keras.thresholds import choose_thresholds


def calibrate(
    run: str | Path,
    data: str | Path | None = None,
    *,
    method: str = "none",
    sensitivity: float | None = None,
    resamples: int = assessment.RESAMPLES,
) -> Evaluation:
    """Fit scaling and thresholds on the validation split, store them in the card, evaluate again.

    Args:
        run: a run folder.
        data: a data folder; by default the one that the network was trained on.
        method: "temperature" or "platt" makes the outputs calibrated probabilities, "none" takes
            them as they are.
        sensitivity: choose the highest thresholds that reach it; without it, those of maximum F1.
        resamples: of the bootstrap over patients.

    Returns:
        The test split with the new card.

    Raises:
        ModelError, DataError: the network or the data cannot be used, or the data has changed, so
            that its validation split is not the one that the network left out of training.
    """
    file = artifacts.find_model(run)
    card = artifacts.read_card(file)
    model = artifacts.load_model(file)
    prepared = data_of(card, data)
    if prepared.fingerprint != card.data.get("fingerprint"):
        raise ModelError(
            f"{file} was not trained on {prepared.root} as it is now, so its validation split is "
            "not known. Name the data folder it was trained on with --data."
        )
    side = prepared.side(sampling.VAL)
    raw = frame_of(side, predict_side(model, side))
    truth, outputs = assessment.columns_of(raw, card.labels)
    scaling, sentences = fit_scaling(truth, outputs, labels=card.labels, method=method)
    probability = scaling.apply(outputs)
    limits, more = choose_thresholds(
        truth, probability, labels=card.labels, sensitivity=sensitivity
    )
    for sentence in [*sentences, *more]:
        notice(sentence)
    stored = {} if method == "none" else scaling.to_dict()
    card = dataclasses.replace(card, thresholds=limits, scaling=stored)
    artifacts.replace_card(file, card)
    assessment.write_table(frame_of(side, probability), file.parent / artifacts.VAL_PREDICTIONS)
    result = evaluate(file, data, resamples=resamples)
    _update_run(file.parent, result, method=method, sensitivity=sensitivity)
    return result


def _update_run(
    folder: Path, result: Evaluation, *, method: str, sensitivity: float | None
) -> None:
    if (folder / artifacts.RUN).exists():
        info = artifacts.read_run(folder)
        info["thresholds"] = result.assessment.thresholds
        info["calibration"] = {"method": method, "sensitivity": sensitivity}
        artifacts.write_run(folder, info)
