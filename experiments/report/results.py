"""Run folders → results: what `predictions.csv` and `run.json` alone say about each run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from runner import FAILED, RUN, read_json

from cxr_keras import FINDINGS, LABELS, CxrError, assess
from report.grid import PER_CLASS, PRETRAINED, Plan
from report.paper import SIZES

RESAMPLES = 1000
DATA = "data/data.json"  # beside the run folders: what was found in the data folder


@dataclass(frozen=True)
class Answers:
    """One set of answers, measured.

    Attributes:
        labels: one row per label, as `cxr_keras.assess` gives it.
        findings, everything: averages over the 14 findings and over all 15 labels: support (a
            sum), precision, accuracy, recall, f1, auroc and loss. A label that is never predicted
            counts with a precision of 0, as in the report; a measure that is undefined because
            no image has the label is left out.
    """

    labels: pd.DataFrame
    findings: pd.Series
    everything: pd.Series


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        plan: what was to be run.
        info: run.json.
        plain: its answers at the report's threshold, 0.5.
        calibrated: at its own thresholds, chosen on the validation split; with intervals.
        always_no: what answering "no" to everything scores on these images.
        base_rates: what answering each label's share of the training split scores.
    """

    plan: Plan
    info: dict[str, Any]
    plain: Answers
    calibrated: Answers
    always_no: Answers
    base_rates: Answers


@dataclass(frozen=True)
class Report:
    """Everything that tables, figures and page are made of.

    Attributes:
        folder: of the report.
        runs: name of the folder of run folders in it.
        plans: the grid.
        results: table → result, of the runs that are done.
        failed: run name → why.
        data: what was found in the data folder, empty if nothing is recorded.
    """

    folder: Path
    runs: str
    plans: tuple[Plan, ...]
    results: dict[str, Result]
    failed: dict[str, str]
    data: dict[str, Any]

    def place(self, plan: Plan) -> str:
        """The run folder, relative to the page."""
        return f"{self.runs}/{plan.name}"

    def why_missing(self, plan: Plan) -> str:
        """A sentence for a run without a result."""
        why = self.failed.get(plan.name)
        return f"This run failed: {why}" if why else "This run has not been made yet."


def read_report(folder: Path, runs: str, plans: tuple[Plan, ...]) -> Report:
    """Read every finished run of `plans`; one that cannot be read counts as failed."""
    place = folder / runs
    failed, results = read_json(place / FAILED), {}
    for plan in plans:
        try:
            found = read_result(plan, place / plan.name)
        except (CxrError, OSError, ValueError, KeyError) as error:
            failed[plan.name] = f"Its folder cannot be read ({error})."
            continue
        if found:
            results[plan.table] = found
            failed.pop(plan.name, None)
    return Report(folder, runs, plans, results, failed, read_json(place / DATA))


def read_result(plan: Plan, folder: Path) -> Result | None:
    """A finished run; None where there is none."""
    info = read_json(folder / RUN)
    if info.get("status") != "done":
        return None
    frame = pd.read_csv(folder / "predictions.csv", dtype={"Patient ID": str})
    rates = info["data"]["base_rates"]
    return Result(
        plan,
        info,
        plain=answers(frame, 0.5, resamples=0),
        calibrated=answers(frame, info["thresholds"], resamples=RESAMPLES),
        always_no=answers(_constant(frame, dict.fromkeys(LABELS, 0.0)), 0.5, resamples=0),
        base_rates=answers(_constant(frame, rates), 0.5, resamples=0),
    )


def answers(frame: pd.DataFrame, thresholds: Any, *, resamples: int) -> Answers:
    """Measure one table of predictions."""
    found = assess(frame, thresholds=thresholds, resamples=resamples)
    table = found.metrics.set_index("label")
    labels = table.loc[list(LABELS)]
    averages = []
    for names, row in ((FINDINGS, "average of 14 findings"), (LABELS, "average of all 15")):
        mean = table.loc[row].copy()
        mean["precision"] = labels.loc[list(names), "precision"].fillna(0.0).mean()
        averages.append(mean)
    return Answers(labels, *averages)


def _constant(frame: pd.DataFrame, values: dict[str, float]) -> pd.DataFrame:
    return frame.assign(**{f"prob_{label}": values[label] for label in LABELS})


def deviations(report: Report, plan: Plan) -> list[str]:
    """What of a run differs from the report's, a sentence each, read from run.json."""
    result = report.results.get(plan.table)
    if result is None:
        return [report.why_missing(plan)]
    info, data, settings = result.info, result.info["data"], result.info["settings"]
    said = []
    if data["phantoms"]:
        said.append(
            "The images are PHANTOMS, synthetic drawings: no number here says anything about "
            "patients, and the differences to the report mean nothing."
        )
    sizes = " / ".join(f"{data['sizes'][split]:,}" for split in ("train", "val", "test"))
    images = "phantoms" if data["phantoms"] else "images"
    chosen = f"{sizes} {images} (train / val / test; the report's {SIZES})"
    if settings["per_class"] != PER_CLASS:
        chosen += f", {settings['per_class']} chosen a label in place of {PER_CLASS}"
    said.append(f"Data: {chosen}. {_label_table(report)}")
    said.append(
        f"Split: {data['split']}, seed {data['seed']} (digest {data['split_digest']}); patients "
        f"in both train and test: {data['shared_patients']['train/test']}. Which images "
        "the report drew is not known, so its test split is another."
    )
    changed = []
    if settings["epochs"] != plan.report_epochs:
        changed.append(f"{settings['epochs']} epochs in place of {plan.report_epochs}")
    weights = settings.get("weights")
    if plan.model in PRETRAINED and weights == "none":
        changed.append("random weights in place of ImageNet's, so every layer trains")
    elif plan.model in PRETRAINED and weights not in (None, "imagenet"):
        changed.append(f"weights from {Path(weights).name}")
    if changed:
        said.append(f"Settings: {'; '.join(changed)}.")
    versions = info["versions"]
    backend = versions["backend"]
    said.append(
        f"Software: cxr-keras {versions['cxr-keras']}, Keras {versions['keras']} on "
        f"{backend} {versions[backend]}, Python {versions['python']}; the report "
        "ran on PyTorch."
    )
    return said


def source(report: Report, plan: Plan) -> str:
    """Where the numbers of a run come from."""
    data = report.results[plan.table].info["data"]
    return f"From {report.place(plan)}, data fingerprint {data['fingerprint']}."


def _label_table(report: Report) -> str:
    name = report.data.get("label_table")
    if not name:
        return "The version of the label table is not recorded."
    return f"Label table {name}; which version the report read is not known."
