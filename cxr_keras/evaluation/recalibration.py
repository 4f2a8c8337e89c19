"""`calibrate`: other thresholds and scaling for a trained network, from its validation split."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from cxr_keras.data.splits import TEST, VAL
from cxr_keras.errors import ModelError
from cxr_keras.evaluation.evaluation import (
    Evaluation,
    data_of,
    frame_of,
    refuse_trained_on,
    write_own_evaluation,
)
from cxr_keras.evaluation.predictions import columns_of
from cxr_keras.inference.forward import forward_split
from cxr_keras.metrics.calibration import fit_scaling
from cxr_keras.metrics.options import RESAMPLES, ScalingMethod
from cxr_keras.metrics.thresholds import choose_thresholds
from cxr_keras.runs import model_file, run_folder
from cxr_keras.runs.run_folder import hold_folder
from cxr_keras.utils.arguments import PathLike
from cxr_keras.utils.console import notice
from cxr_keras.utils.files import write_table


def calibrate(
    run: PathLike,
    data: PathLike | None = None,
    *,
    method: ScalingMethod = "none",
    sensitivity: float | None = None,
    resamples: int = RESAMPLES,
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
        RunError: another process works in the run folder.
    """
    file = model_file.find_model(run)
    with hold_folder(file.parent):
        return _calibrate(file, data, method, sensitivity, resamples)


def _calibrate(
    file: Path,
    data: PathLike | None,
    method: ScalingMethod,
    sensitivity: float | None,
    resamples: int,
) -> Evaluation:
    card = model_file.read_card(file)
    model = model_file.load_model(file)
    prepared = data_of(card, data)
    if prepared.fingerprint != card.data.get("fingerprint"):
        raise ModelError(
            f"{file} was not trained on {prepared.root} as it is now, so its validation split is "
            "not known. Name the data folder it was trained on with --data."
        )
    val, test = prepared.split(VAL), prepared.split(TEST)
    refuse_trained_on(file, test, force=False)
    raw = frame_of(val, forward_split(model, val), card.labels)
    truth, outputs = columns_of(raw, card.labels)
    scaling, sentences = fit_scaling(truth, outputs, labels=card.labels, method=method)
    probability = scaling.apply(outputs)
    limits, more = choose_thresholds(
        truth, probability, labels=card.labels, sensitivity=sensitivity
    )
    for sentence in [*sentences, *more]:
        notice(sentence)
    stored = {} if method == "none" else scaling.to_dict()
    card = dataclasses.replace(card, thresholds=limits, scaling=stored)
    tested = frame_of(test, card.probabilities(forward_split(model, test)), card.labels)
    folder = run_folder.results_folder(file)
    folder.mkdir(parents=True, exist_ok=True)
    model_file.replace_card(file, card)
    result = write_own_evaluation(tested, folder, card, resamples=resamples)
    write_table(frame_of(val, probability, card.labels), folder / run_folder.VAL_PREDICTIONS)
    _update_run(folder, result, method=method, sensitivity=sensitivity)
    return result


def _update_run(
    folder: Path, result: Evaluation, *, method: str, sensitivity: float | None
) -> None:
    if (folder / run_folder.RUN).exists():
        info = run_folder.read_run(folder)
        info["thresholds"] = result.assessment.thresholds
        info["calibration"] = {"method": method, "sensitivity": sensitivity}
        run_folder.write_run(folder, info)
