"""What is in a model file: its card without paths, its images without their digests."""

import json
import secrets

import pytest
from helpers.model_files import read_member
from hypothesis import given
from hypothesis import strategies as st

from cxr_keras import load_model
from cxr_keras.runs import model_file
from cxr_keras.runs.card import Card
from cxr_keras.runs.image_lists import ImageList

DIGESTS = st.sets(st.integers(0, 10**6).map("{:016x}".format), max_size=30)


@given(DIGESTS, DIGESTS, DIGESTS)
def test_a_list_counts_its_images_also_from_text_and_joined(first, second, asked):
    lists = [ImageList.of(first), ImageList.of(second)]
    for made, kept in ((lists[0], first), (ImageList.joined(lists), first | second)):
        back = ImageList.from_text(made.to_text())
        assert back == made
        assert back.count(sorted(asked)) == len(asked & kept)


def test_lists_of_the_same_images_share_nothing():
    digests = [secrets.token_hex(8) for _ in range(50)]
    texts = [set(ImageList.of(digests).to_text().split("\n")[1:]) for _ in range(2)]
    assert not texts[0] & texts[1]
    assert not any(digest in line for digest in digests for line in texts[0])


def test_a_list_of_another_version_or_of_nonsense_is_none():
    text = ImageList.of(["00"]).to_text()
    assert ImageList.from_text(text.replace("decoding 1", "decoding 2")) is None
    assert ImageList.from_text("") is None


def test_a_list_written_before_there_was_a_salt_counts_as_ever():
    old = "digests of pixels, decoding 1\naa\nbb"
    found = ImageList.from_text(old)
    assert found.count(["aa", "cc", "bb"]) == 2
    assert "aa" not in found.to_text().split("\n")


def test_a_run_counts_its_own_images(run, phantoms):
    from cxr_keras.data.preparation import prepare

    manifest = prepare(phantoms).manifest
    sizes = run.info["data"]["sizes"]
    for member, split in ((model_file.TRAINED_ON, "train"), (model_file.TUNED_ON, "val")):
        assert model_file.count_listed(run.folder, member, manifest["digest"]) == sizes[split]
        others = manifest.loc[manifest["split"] != split, "digest"]
        assert model_file.count_listed(run.folder, member, others) == 0


def test_the_card_keeps_the_last_part_of_a_path():
    data = {"root": "/home/ann/data/nih", "base_rates": {"Mass": 0.1}}
    settings = {
        "data": r"C:\Users\ann\nih",
        "weights": "~/w/alexnet.pth",
        "members": [{"run": "runs/a/", "weight": 0.5}],
        "loss": "bce",
        "fine_tune": None,
    }
    card = json.loads(Card(data=data, settings=settings, notice="a/b stays").to_json())
    assert card["data"] == {"root": "nih", "base_rates": {"Mass": 0.1}}
    assert card["settings"] == {
        "data": "nih",
        "weights": "alexnet.pth",
        "members": [{"run": "a", "weight": 0.5}],
        "loss": "bce",
        "fine_tune": None,
    }
    assert card["notice"] == "a/b stays"


def test_cards_of_the_first_two_formats_are_read():
    old = json.loads(Card().to_json())
    del old["normal"]
    old["format"] = "cxr-keras card 2"
    assert Card.from_json(json.dumps(old)) == Card()
    old["format"] = "cxr-keras card 1"
    del old["calibration"]
    assert Card.from_json(json.dumps(old)) == Card()
    with pytest.raises(ValueError, match="a newer cxr-keras may have written it"):
        Card.from_json(json.dumps(old | {"format": "cxr-keras card 4"}))


def test_saving_takes_a_list_as_it_is(run, tmp_path):
    listed = model_file.read_list(run.folder, model_file.TRAINED_ON)
    network, card = load_model(run.folder), model_file.read_card(run.folder)
    model_file.save_model(network, card, tmp_path / "x.keras", trained_on=listed)
    member = model_file.TRAINED_ON
    assert read_member(tmp_path / "x.keras", member) == read_member(run.folder, member)
    assert model_file.read_list(tmp_path / "x.keras", model_file.TUNED_ON) is None
