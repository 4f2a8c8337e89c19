"""`card`: what a model file and its run folder know, as a page to hand on with the network.

After Mitchell et al., "Model Cards for Model Reporting", FAT* 2019, https://arxiv.org/abs/1810.03993.
Nothing is invented: what the file does not know, the page says it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_keras import __version__
from cxr_keras.data.splits import TEST
from cxr_keras.errors import CxrError
from cxr_keras.evaluation.document import Document, Table
from cxr_keras.evaluation.kept import Kept
from cxr_keras.evaluation.predictions import labels_of
from cxr_keras.inference.dicom_answers import Algorithm
from cxr_keras.metrics import per_label
from cxr_keras.metrics.subgroups import MIN_PATIENTS, overview
from cxr_keras.models.registry import find_spec
from cxr_keras.runs import model_file, run_folder
from cxr_keras.runs.card import Card
from cxr_keras.utils.arguments import PathLike
from cxr_keras.utils.console import counted
from cxr_keras.utils.files import make_parent, write_text

SUFFIXES = (".md", ".html")
INTENDED = (
    "Research and teaching: comparing networks, methods and data sets; finding images to look at.",
    "Not for diagnosis, triage or any decision about a patient. It is no medical device, and "
    "nobody has tested it as one.",
)
LIMITS = (
    "Where there are intervals, they cover the drawing of patients, not of weights, and hold for "
    "patients like these.",
    "Labels are those of the data set, with its errors; heat maps show what moved the network, not "
    "where a finding is.",
    "This card knows of no measurement on machines, hospitals or views other than the data's.",
)
_MEASURES = (("auroc", "AUROC"), ("ap", "AP"), ("recall", "recall"), ("precision", "precision"))
_NOT_SAID = "The file does not say it."


def write_card(run: PathLike, out: PathLike | None = None, *, private: bool = False) -> Path:
    """Write a model card: data, splits, numbers with intervals, subgroups, limits, intended use.

    Args:
        run: a run folder or a `.keras` file; numbers stand in the run folder alone.
        out: the .md or .html file; by default card.md in the run folder, or beside the file.
        private: leave out the names of the data's folders, how they were read, and all digests.

    Returns:
        The file.

    Raises:
        ModelError: the model cannot be read.
        CxrError: `out` is neither .md nor .html, or cannot be written.
    """
    file = model_file.find_model(run)
    target = Path(out) if out is not None else run_folder.results_folder(file) / "card.md"
    if target.suffix not in SUFFIXES:
        raise CxrError(f"A card is a .md or .html file. Received: {target.name}.")
    document = model_card(file, private=private)
    make_parent(target)
    html = target.suffix == ".html"
    write_text(target, document.to_html() if html else document.to_markdown())
    return target


def model_card(file: Path, *, private: bool = False) -> Document:
    """The card of a model file, as a document; see `write_card`."""
    card = model_file.read_card(file).without_paths()
    kept = Kept.of(file, card)
    network = str(card.settings.get("model", "a network"))
    made = Document(
        f"Model card: {network}, {counted(len(card.labels), 'label')} of chest radiographs"
    )
    made.add("Notice", card.notice, card.split_notice, card.prevalence_notice)
    made.add("Intended use", *INTENDED)
    made.add("The network", *_network(card, network))
    made.add("Training data", *_data(card, private))
    made.add("How it was trained", _settings(card, private))
    made.add("Labels and thresholds", _thresholds(card))
    made.add("Calibration", *_calibration(card))
    made.add("What it comes to", *_numbers(kept))
    made.add("Subgroups", *_subgroups(card, kept))
    made.add("Limits", *LIMITS)
    made.add("Licences", *_licences(card, network))
    made.add("Provenance", _provenance(file, card, private))
    return made


def _network(card: Card, network: str) -> list[str | Table]:
    spec, framing = find_spec(network), card.framing
    fit = (
        "the centre square of the image, less its rim"
        if framing.fit == "crop"
        else "the whole image, with black beside it"
    )
    return [
        f"{network}: {spec.source}." if spec else f"{network}.",
        f"It takes grey pixels (N, {framing.stored}, {framing.stored}, 1) in 0…255 and sees "
        f"{framing.size} × {framing.size} of them ({fit}); it gives (N, {len(card.labels)}) "
        "probabilities.",
    ]


def _data(card: Card, private: bool) -> list[str | Table]:
    data = card.data
    if not data:
        return [_NOT_SAID]
    sizes = data.get("sizes", {})
    rows = [[name, f"{count:,}"] for name, count in sizes.items()]
    said = "" if private or not data.get("root") else f"Its folder was called {data['root']}."
    phantoms = "They are phantoms: synthetic drawings, no patients." if data.get("phantoms") else ""
    split = f"Split: {data['split']}." if data.get("split") else ""
    rates = [[name, f"{rate:.4f}"] for name, rate in data.get("base_rates", {}).items()]
    return [
        said,
        phantoms,
        split,
        Table(["split", "images"], rows),
        Table(["label", "share that has it, of the training images of which it is known"], rates),
    ]


def _settings(card: Card, private: bool) -> Table:
    hidden = {"data", "boxes", "folder", "name"} if private else set()
    known = {name: value for name, value in card.settings.items() if value is not None}
    rows = [[name, _text(value)] for name, value in known.items() if name not in hidden]
    return Table(["setting", "value"], rows)


def _thresholds(card: Card) -> Table:
    pairs = zip(card.labels, card.thresholds, strict=True)
    return Table(
        ["label", "predicted from this probability on"],
        [[name, f"{threshold:.4f}"] for name, threshold in pairs],
    )


def _calibration(card: Card) -> list[str | Table]:
    found = card.calibration
    if not found:
        return ["Its probabilities are not calibrated; thresholds were chosen on validation."]
    method = found.get("method", "none")
    said = [f"Calibrated on validation; method: {method}."]
    if method == "none":
        moved = ", but moved to another prevalence" if found.get("prevalence") else ""
        said = [
            f"Its probabilities are not calibrated{moved}; thresholds were chosen on validation."
        ]
    if found.get("sensitivity"):
        said.append(f"Thresholds were chosen for a sensitivity of {found['sensitivity']}.")
    if card.guarantee:
        said.append(
            f"Its label sets hold at least {card.guarantee['level']:.0%} of a patient's findings "
            "on average, for patients like those of validation."
        )
    return [*said]


def _numbers(kept: Kept | None) -> list[str | Table]:
    if kept is None or kept.metrics.empty:
        return ["This file is on its own: its numbers stand in its run folder."]
    split = "test" if kept.split == TEST else "validation"
    about = f"Of its {split} split, {len(kept.predictions):,} images, at the thresholds above."
    measured = "auroc_low" in kept.metrics
    return [
        about,
        "Intervals are 95%, by a bootstrap over patients." if measured else "",
        Table(
            ["label", "images with it", *(title for _, title in _MEASURES), "Brier", "ECE"],
            [_row(row) for row in kept.metrics.to_dict("records") if _is_measured(row["label"])],
        ),
    ]


def _is_measured(label: str) -> bool:
    baselines = (per_label.BASELINE_NO, per_label.BASELINE_RATES)
    return not label.endswith(per_label.DEFINED_SUFFIX) and label not in baselines


def _row(row: Mapping[Any, Any]) -> list[str]:
    cells = [str(row["label"]), _count(row.get("support"))]
    cells += [_with_interval(row, name) for name, _ in _MEASURES]
    return [*cells, _number(row.get("brier")), _number(row.get("ece"))]


def _subgroups(card: Card, kept: Kept | None) -> list[str | Table]:
    if kept is None or kept.subgroups.empty:
        return []
    average = next(iter(per_label.average_rows(labels_of(kept.predictions), card.normal)))
    table = overview(kept.subgroups, average)
    return [
        f"Of each, the {average}. A group of fewer than {MIN_PATIENTS} patients is not measured.",
        Table(
            ["group", "images", "patients", *(title for _, title in _MEASURES)],
            [
                [f"{row['group']}: {row['value']}", _count(row["images"]), _count(row["patients"])]
                + [_with_interval(row, name) for name, _ in _MEASURES]
                for row in table.to_dict("records")
            ],
        ),
    ]


def _licences(card: Card, network: str) -> list[str | Table]:
    start = card.settings.get("weights")
    spec = find_spec(network)
    if start == "none" or (spec and not spec.pretrained and not start):
        began = "It was trained from random weights."
    elif start and start != "imagenet":
        began = f"It began with the weights of {start}; their licence holds for it, too."
    elif spec and spec.pretrained:
        began = f"It began with ImageNet weights ({spec.source}); their licence holds for it, too."
    else:
        began = "The file does not say what weights it began with."
    return [
        began,
        "The file does not say under which licence its training data is; the data set's own terms "
        "hold. cxr-keras itself is under the Apache License 2.0.",
    ]


def _provenance(file: Path, card: Card, private: bool) -> Table:
    rows = [["made by", f"cxr-keras {__version__}"]]
    if not private:
        rows.append(["model file, SHA-256", Algorithm.of(file, card).digest])
        names = {"fingerprint": "data, digest", "split_digest": "split, digest"}
        rows += [[title, str(card.data[key])] for key, title in names.items() if key in card.data]
    lists = model_file.read_list(file, model_file.TRAINED_ON) is not None
    rows.append(["salted digests of its training images in the file", _text(lists)])
    return Table(["what", "is"], rows)


def _with_interval(row: Mapping[Any, Any], name: str) -> str:
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    found = _number(row.get(name))
    return found if low is None or pd.isna(low) else f"{found} ({low:.3f}–{high:.3f})"


def _number(value: Any) -> str:
    return "" if value is None or pd.isna(value) else f"{value:.3f}"


def _count(value: Any) -> str:
    return "" if value is None or pd.isna(value) else f"{int(value):,}"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        names = [part.get("run", part) if isinstance(part, dict) else part for part in value]
        return ", ".join(map(str, names))
    return str(value)
