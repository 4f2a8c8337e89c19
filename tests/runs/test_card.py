"""The card in a model file."""

from cxr_keras.data.labels import LABELS
from cxr_keras.runs import model_file


def test_the_card_says_what_the_network_is(run):
    card = model_file.read_card(run.folder)
    assert card.labels == LABELS
    assert card.thresholds == tuple(run.info["thresholds"].values())
    assert card.data["phantoms"] is True
    assert card.data["fingerprint"] == run.info["data"]["fingerprint"]
    assert card.settings["seed"] == 42
    assert "phantoms" in card.notice
