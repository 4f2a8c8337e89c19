"""The card in a model file."""

from cxr_keras.data.labels import LABELS
from cxr_keras.runs import model_file
from cxr_keras.runs.card import Card


def test_the_card_says_what_the_network_is(run):
    card = model_file.read_card(run.folder)
    assert card.labels == LABELS
    assert card.thresholds == tuple(run.info["thresholds"].values())
    assert card.data["phantoms"] is True
    assert card.data["fingerprint"] == run.info["data"]["fingerprint"]
    assert card.settings["seed"] == 42
    assert "phantoms" in card.notice


def test_a_card_says_that_prevalence_is_artificial_unless_the_network_was_moved():
    data = {"per_class": 5, "not_chosen": 100, "sizes": {"train": 50}}
    assert "at most 5 for each label" in Card(data=data).prevalence_notice
    assert Card(data=data | {"not_chosen": 0}).prevalence_notice == ""
    moved = {"prevalence": {"new": {"Mass": 0.02}}}
    assert Card(data=data, calibration=moved).prevalence_notice == ""


def test_a_card_keeps_labels_with_a_slash_and_no_path():
    reading = {"labels": ["Nodule/Mass"], "table": "/home/someone/labels.csv"}
    text = Card(data={"root": "/home/someone/data", "reading": reading}).to_json()
    card = Card.from_json(text)
    assert card.data["reading"] == {"labels": ["Nodule/Mass"], "table": "labels.csv"}
    assert "someone" not in text
