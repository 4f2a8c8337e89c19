"""`calibrate`: other thresholds and scaling for a trained network, from its validation split."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import expit

from cxr_keras.data.dataset import PATIENT
from cxr_keras.data.labels import LabelSet
from cxr_keras.data.preparation import Prepared, PreparedSplit
from cxr_keras.data.readers.prevalence import read_prevalence
from cxr_keras.data.reading import Data, as_data
from cxr_keras.data.splits import TEST, VAL
from cxr_keras.errors import CxrError, ModelError
from cxr_keras.evaluation.evaluation import refuse_trained_on
from cxr_keras.evaluation.measured import data_of
from cxr_keras.evaluation.predictions import columns_of
from cxr_keras.evaluation.prevalence import no_move, notice_of, plan_move
from cxr_keras.evaluation.result import Evaluation, averages_of, frame_of, write_own_evaluation
from cxr_keras.inference.forward import forward_split
from cxr_keras.metrics.calibration import fit_scaling, scale_logits
from cxr_keras.metrics.conformal import guaranteed_threshold
from cxr_keras.metrics.options import RESAMPLES, ScalingMethod
from cxr_keras.metrics.thresholds import choose_thresholds
from cxr_keras.models.scaling import logits_of, with_scaling
from cxr_keras.runs import model_file, run_folder
from cxr_keras.runs.card import Card
from cxr_keras.runs.run_folder import hold_folder
from cxr_keras.utils.arguments import PathLike
from cxr_keras.utils.changes import change_together
from cxr_keras.utils.console import notice
from cxr_keras.utils.files import write_table


def calibrate(
    run: PathLike,
    data: Data | None = None,
    *,
    method: ScalingMethod = "none",
    sensitivity: float | None = None,
    prevalence: PathLike | None = None,
    guarantee: float | None = None,
    resamples: int = RESAMPLES,
) -> Evaluation:
    """Fit scaling and thresholds on the validation split, store them in the file, evaluate again.

    The scaling becomes a layer of the network, so that the file gives the same probabilities
    wherever it is loaded. It begins with the outputs as they were trained, also where the file is
    calibrated already. Model, tables, predictions and run.json change together or not at all.

    Args:
        run: a run folder or a `.keras` file.
        data: the data that the network was trained on, where it lies elsewhere now.
        method: "temperature" or "platt" makes the outputs calibrated probabilities, "none" takes
            them as they are.
        sensitivity: choose the highest thresholds that reach it; without it, those of maximum F1.
        prevalence: move probabilities and thresholds to the prevalence of this label table in
            NIH's layout, or of this CSV with the columns "label" and "prevalence" (see
            `evaluation.prevalence`).
        guarantee: make label sets that hold at least this share of the findings of a patient on
            average, for patients like those of the validation split (see
            `metrics.conformal.guaranteed_threshold`); `predict` then names each image's set.
        resamples: of the bootstrap over patients.

    Returns:
        The test split with the new card; the validation split where there is no test split.

    Raises:
        ModelError, DataError: the network, the data or the prevalence cannot be used, or the data
            has changed, so that its validation split is not the one that the network left out of
            training.
        RunError: another process works in the run folder.
        CxrError: the files cannot be written, or the guarantee does not hold where the prevalence
            is another.
    """
    if guarantee is not None and prevalence is not None:
        raise CxrError(
            "A guarantee holds for patients like those of the validation split, and --prevalence "
            "says that others come. Leave one of them out."
        )
    file = model_file.find_model(run)
    wanted: dict[str, float] = {}
    sentences: list[str] = []
    if prevalence is not None:
        known = model_file.read_card(file)
        wanted, sentences = read_prevalence(prevalence, LabelSet(known.labels, known.normal))
    with hold_folder(file.parent):
        card = model_file.read_card(file)
        prepared = _own_data(file, card, as_data(data) or None)
        network = with_scaling(model_file.load_model(file))  # the outputs as they were trained
        names = dict.fromkeys((VAL, card.measured_split))  # each once
        splits = [_run(network, prepared.split(name), card.labels) for name in names]
        val = splits[0]
        outputs = expit(val.logits.astype("float64"))
        truth = columns_of(val.frame(outputs), card.labels)[0]
        scaling, more = fit_scaling(truth, outputs, labels=card.labels, method=method)
        sentences += more
        move = no_move(card.labels)
        if prevalence is not None:
            source, rates = Path(prevalence).name, prepared.base_rates()
            move, more = plan_move(
                wanted, truth, rates, labels=card.labels, method=method, source=source
            )
            sentences += more
        shift = np.array(scaling.shift) + move.shift
        scaled = [split.scaled(scaling.slope, shift) for split in splits]
        limits, more = choose_thresholds(
            *columns_of(scaled[0], card.labels),
            labels=card.labels,
            sensitivity=sensitivity,
            prevalence=move.new,
        )
        for sentence in sentences + more:
            notice(sentence)
        if method != "none" or move.source:
            network = with_scaling(network, scaling.slope, shift)
        record = scaling.to_dict() | {"shift": shift.tolist(), "sensitivity": sensitivity}
        record["prevalence"] = move.to_dict()
        if guarantee is not None:
            record["guarantee"], sentence = _guarantee(scaled[0], card, guarantee)
            notice(sentence)
        card = _with_calibration(card, record, limits)
        return _replace_run(file, network, card, scaled[0], scaled[-1], resamples=resamples)


def _guarantee(val: pd.DataFrame, card: Card, level: float) -> tuple[dict[str, Any], str]:
    """What the card says of label sets with a guarantee, and the sentence that belongs to it."""
    truth, probability = columns_of(val, card.findings)
    threshold, patients = guaranteed_threshold(truth, probability, val[PATIENT], level=level)
    record = {"level": level, "threshold": threshold, "patients": patients}
    if not threshold:
        return record, (
            f"{patients} patients with findings in the validation split are too few for a "
            f"guarantee of {level:.0%}: each set holds every label."
        )
    return record, (
        f"Label sets hold at least {level:.0%} of a patient's findings on average, for patients "
        f"like the {patients:,} with findings of the validation split, and for no others."
    )


@dataclasses.dataclass(frozen=True)
class _Outputs:
    """The logits (n, n_labels) of a network for a split, as they were trained."""

    images: PreparedSplit
    logits: np.ndarray
    labels: tuple[str, ...]

    def frame(self, probability: np.ndarray) -> pd.DataFrame:
        """Predictions as predictions.csv has them."""
        return frame_of(self.images, probability, self.labels)

    def scaled(self, slope: ArrayLike, shift: ArrayLike) -> pd.DataFrame:
        """Predictions, with the probabilities in float32 as the scaled network gives them."""
        return self.frame(scale_logits(self.logits, slope, shift).astype("float32"))


def _run(network: keras.Model, images: PreparedSplit, labels: tuple[str, ...]) -> _Outputs:
    logits = keras.Model(network.input, logits_of(network))
    return _Outputs(images, forward_split(logits, images), labels)


def _own_data(file: Path, card: Card, data: Data | None) -> Prepared:
    """The data that a network was trained on, if they are as they were then."""
    prepared = data_of(file, card, data)
    if prepared.fingerprint != card.data.get("fingerprint"):
        raise ModelError(
            f"{file} was not trained on {prepared.root} as it is now, so its validation split is "
            "not known. Name the data folder it was trained on with --data."
        )
    refuse_trained_on(file, prepared.split(card.measured_split), force=False)
    return prepared


def _with_calibration(card: Card, record: dict[str, Any], limits: tuple[float, ...]) -> Card:
    """The card with another calibration, thresholds, and the notice that belongs to it."""
    before = card.calibration.get("prevalence")
    sentences = [card.notice.replace(notice_of(before["source"]), "") if before else card.notice]
    if record["prevalence"]:
        sentences.append(notice_of(record["prevalence"]["source"]))
    return dataclasses.replace(
        card,
        thresholds=limits,
        calibration=record,
        scaling={},
        notice=" ".join(text.strip() for text in sentences if text.strip()),
    )


def _replace_run(
    file: Path,
    network: keras.Model,
    card: Card,
    val: pd.DataFrame,
    measured: pd.DataFrame,
    *,
    resamples: int,
) -> Evaluation:
    """Put the network and all that was found of it into the place of what was there."""
    folder = run_folder.results_folder(file)
    lists = {member: model_file.read_list(file, member) for member in model_file.LISTS}
    with change_together(file) as new:
        results = new / folder.relative_to(file.parent)
        results.mkdir(exist_ok=True)
        model_file.save_model(
            network,
            card,
            new / file.name,
            trained_on=lists[model_file.TRAINED_ON],
            tuned_on=lists[model_file.TUNED_ON],
            guard=model_file.read_guard(file),
        )
        evaluation = write_own_evaluation(measured, results, card, resamples=resamples)
        write_table(val, results / run_folder.VAL_PREDICTIONS)
        if (folder / run_folder.RUN).exists():
            info = run_folder.read_run(folder)
            info["thresholds"] = evaluation.assessment.thresholds
            info |= {"calibration": card.calibration, "notice": card.notice}
            info |= averages_of(val, evaluation, card)
            if card.measured_split == TEST:
                info["loss"] = info.get("loss", {}) | {"test": round(evaluation.loss, 6)}
            run_folder.write_run(results, info)
    return dataclasses.replace(evaluation, folder=folder / evaluation.folder.relative_to(results))
