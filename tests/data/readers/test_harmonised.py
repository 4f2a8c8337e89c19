from itertools import combinations

import pytest

from cxr_keras.data.labels import NIH, plain
from cxr_keras.data.readers.chexpert import CHEXPERT
from cxr_keras.data.readers.harmonised import HARMONISED, matching, same_finding
from cxr_keras.data.readers.padchest import PADCHEST
from cxr_keras.data.readers.vindr import KAGGLE, PHYSIONET

CHESTMNIST = (
    "atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia",
    "pneumothorax", "consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia",
)  # fmt: skip
GOOGLE = ("Fracture", "Pneumothorax", "Airspace opacity", "Nodule or mass")
RSNA = ("Lung Opacity", "Pneumonia")
SETS = {
    "nih": NIH.names,
    "chexpert": CHEXPERT.names,
    "padchest": PADCHEST.names,
    "vindr": PHYSIONET.names,
    "kaggle": KAGGLE.names,
    "chestmnist": CHESTMNIST,
    "google": GOOGLE,
    "rsna": RSNA,
}
SHARED = {  # written down by hand: ours, theirs → their name: our name
    ("nih", "chexpert"): {
        "No Finding": "No Finding",
        "Cardiomegaly": "Cardiomegaly",
        "Edema": "Edema",
        "Consolidation": "Consolidation",
        "Pneumonia": "Pneumonia",
        "Atelectasis": "Atelectasis",
        "Pneumothorax": "Pneumothorax",
        "Pleural Effusion": "Effusion",
    },
    ("nih", "padchest"): {
        "normal": "No Finding",
        "atelectasis": "Atelectasis",
        "cardiomegaly": "Cardiomegaly",
        "consolidation": "Consolidation",
        "pulmonary edema": "Edema",
        "pleural effusion": "Effusion",
        "emphysema": "Emphysema",
        "pulmonary fibrosis": "Fibrosis",
        "hiatal hernia": "Hernia",
        "infiltrates": "Infiltration",
        "pulmonary mass": "Mass",
        "nodule": "Nodule",
        "pleural thickening": "Pleural_Thickening",
        "pneumonia": "Pneumonia",
        "pneumothorax": "Pneumothorax",
    },
    ("nih", "kaggle"): {
        "Atelectasis": "Atelectasis",
        "Cardiomegaly": "Cardiomegaly",
        "Consolidation": "Consolidation",
        "Infiltration": "Infiltration",
        "Pleural effusion": "Effusion",
        "Pleural thickening": "Pleural_Thickening",
        "Pneumothorax": "Pneumothorax",
        "Pulmonary fibrosis": "Fibrosis",
        "No finding": "No Finding",
    },
    ("nih", "rsna"): {"Pneumonia": "Pneumonia"},
    ("nih", "google"): {"Pneumothorax": "Pneumothorax"},
    ("chexpert", "google"): {
        "Fracture": "Fracture",
        "Pneumothorax": "Pneumothorax",
        "Airspace opacity": "Lung Opacity",
    },
    ("chexpert", "rsna"): {"Lung Opacity": "Lung Opacity", "Pneumonia": "Pneumonia"},
    ("kaggle", "google"): {
        "Pneumothorax": "Pneumothorax",
        "Airspace opacity": "Lung Opacity",
        "Nodule or mass": "Nodule/Mass",
    },
    ("chexpert", "vindr"): {
        "Atelectasis": "Atelectasis",
        "Cardiomegaly": "Cardiomegaly",
        "Consolidation": "Consolidation",
        "Edema": "Edema",
        "Lung Opacity": "Lung Opacity",
        "Pleural effusion": "Pleural Effusion",
        "Pneumonia": "Pneumonia",
        "Pneumothorax": "Pneumothorax",
        "No finding": "No Finding",
    },
    ("vindr", "padchest"): {
        "atelectasis": "Atelectasis",
        "cardiomegaly": "Cardiomegaly",
        "cavitation": "Lung cavity",
        "clavicle fracture": "Clavicle fracture",
        "consolidation": "Consolidation",
        "COPD signs": "COPD",
        "emphysema": "Emphysema",
        "infiltrates": "Infiltration",
        "mediastinal shift": "Mediastinal shift",
        "pleural effusion": "Pleural effusion",
        "pleural thickening": "Pleural thickening",
        "pneumonia": "Pneumonia",
        "pneumothorax": "Pneumothorax",
        "pulmonary artery enlargement": "Enlarged PA",
        "pulmonary edema": "Edema",
        "pulmonary fibrosis": "Pulmonary fibrosis",
        "rib fracture": "Rib fracture",
        "tuberculosis": "Tuberculosis",
        "normal": "No finding",
    },
}


@pytest.mark.parametrize("pair", SHARED, ids="-".join)
def test_what_two_data_sets_share(pair):
    ours, theirs = (SETS[name] for name in pair)
    assert matching(ours, theirs) == SHARED[pair]
    back = {our: their for their, our in SHARED[pair].items()}
    assert matching(theirs, ours) == back


def test_chestmnists_labels_are_nihs_findings():
    assert list(matching(NIH.names, CHESTMNIST)) == list(CHESTMNIST)
    assert set(matching(NIH.names, CHESTMNIST).values()) == set(NIH.findings)


@pytest.mark.parametrize("name", SETS)
def test_no_data_set_has_two_names_for_a_finding(name):
    for a, b in combinations(SETS[name], 2):
        assert not same_finding(a, b), (a, b)


def test_a_name_stands_in_one_row_once():
    names = [plain(name) for row in HARMONISED for name in row]
    assert len(names) == len(set(names))
    assert all(len(row) > 1 for row in HARMONISED)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Lung Lesion", "Nodule"),
        ("Lung Lesion", "Mass"),
        ("Lung Lesion", "Nodule/Mass"),
        ("Lung Lesion", "Other lesion"),
        ("Nodule/Mass", "Nodule"),
        ("Nodule or mass", "Mass"),
        ("nodule", "multiple nodules"),
        ("nodule", "pseudonodule"),
        ("Mass", "mediastinal mass"),
        ("Lung tumor", "Mass"),
        ("Pleural Other", "Pleural_Thickening"),
        ("Pleural Other", "pleural"),
        ("pleural", "Effusion"),
        ("Effusion", "pericardial effusion"),
        ("Pleural_Thickening", "apical pleural thickening"),
        ("Emphysema", "subcutaneous emphysema"),
        ("Fibrosis", "fibrotic band"),
        ("Infiltration", "Consolidation"),
        ("Infiltration", "interstitial pattern"),
        ("Lung Opacity", "Pneumonia"),
        ("Lung Opacity", "Infiltration"),
        ("Atelectasis", "laminar atelectasis"),
        ("Fracture", "rib fracture"),
        ("Cardiomegaly", "Enlarged Cardiomediastinum"),
        ("Enlarged Cardiomediastinum", "mediastinal enlargement"),
        ("aortic elongation", "Aortic enlargement"),
        ("Tuberculosis", "tuberculosis sequelae"),
        ("ILD", "interstitial pattern"),
        ("Enlarged PA", "PA"),
    ],
)
def test_names_that_look_alike_but_are_other_findings(a, b):
    assert not same_finding(a, b)
    assert matching([a], [b]) == {}


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Pleural_Thickening", " pleural thickening"),
        ("PNEUMOTHORAX", "pneumothorax"),
        ("Hernia, Hiatal", "hiatal_hernia"),
        ("Pulmonary Emphysema", "emphysema"),
        ("Infiltrate", "infiltrates"),
        ("NORMAL", "No finding"),
    ],
)
def test_spelling_does_not_count(a, b):
    assert same_finding(a, b)
    assert same_finding(b, a)
    assert matching([a], [b]) == {b: a}


def test_an_equal_name_comes_before_another_name_for_it():
    assert matching(["Lung Opacity"], ["Airspace opacity", "lung opacity"]) == {
        "lung opacity": "Lung Opacity"
    }
    assert matching(["Effusion", "Pleural Effusion"], ["pleural effusion"]) == {
        "pleural effusion": "Pleural Effusion"
    }


def test_each_name_is_matched_once():
    assert matching(["Mass", "Pulmonary mass"], ["mass"]) == {"mass": "Mass"}
    assert matching(["Edema"], ["pulmonary edema", "Pulmonary_Edema"]) == {
        "pulmonary edema": "Edema"
    }
    assert matching([], ["Edema"]) == matching(["Edema"], []) == {}
