"""Open-i as a data set, in both layouts that circulate."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from helpers.data_folders import write_csv, write_films
from helpers.real_tables import real_table
from helpers.refusals import refusal

from cxr_keras.data.readers.layout import ReadOptions, assemble
from cxr_keras.data.readers.openi import LABELS, PROJECTIONS_NAME, REPORTS_NAME, openi
from cxr_keras.data.readers.openi_terms import NAMES, TERMS, labels_of
from cxr_keras.data.readers.registry import reader_of

MAYBE = -1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five reports, six images, as on Kaggle."""
    write_csv(
        tmp_path / REPORTS_NAME,
        "uid,MeSH,Problems,image,indication,comparison,findings,impression",
        "1,normal,normal,Xray Chest PA and Lateral,,,,",
        '2,"Cardiomegaly/borderline;Catheters, Indwelling/right","Cardiomegaly;Catheters",,,,,',
        "3,No Indexing,No Indexing,,,,,",
        "4,Thoracic Vertebrae/degenerative;Thickening/pleura/left,Thoracic Vertebrae,,,,,",
        "5,Technical Quality of Image Unsatisfactory ,x,,,,,",
    )
    names = [f"{uid}_IM-0001-{n}.dcm.png" for uid, n in ((1, 3), (1, 4), (2, 1), (3, 1), (4, 1))]
    lines = [
        f"{name.partition('_')[0]},{name},{'Lateral' if '-4.' in name else 'Frontal'}"
        for name in names
    ]
    write_csv(tmp_path / PROJECTIONS_NAME, "uid,filename,projection", *lines, "9,9.dcm.png,Frontal")
    write_films(tmp_path / "images" / "images_normalized", names)
    return tmp_path


REPORT = """<?xml version="1.0"?><eCitation><uId id="CXR{uid}"/><MeSH>{terms}
<automatic>cardiomegaly</automatic></MeSH>{images}</eCitation>"""


def write_report(folder: Path, uid: int, terms: list[str], images: list[str]) -> None:
    path = folder / "ecgen-radiology" / f"{uid}.xml"
    path.parent.mkdir(exist_ok=True)
    text = REPORT.format(
        uid=uid,
        terms="".join(f"<major> {term}\n</major>" for term in terms),
        images="".join(f'<parentImage id="{image}"><url/></parentImage>' for image in images),
    )
    path.write_text(text)


def cells(dataset):
    return dict(zip(dataset.table["Image Index"], dataset.table["Finding Labels"], strict=True))


def said(found):
    return " ".join(found.notices)


def test_the_two_tables_of_kaggle(folder):
    found = openi(folder)
    assert found.labels is LABELS
    assert found.labels.normal == "No Finding"
    assert found.images["Image Index"].tolist() == [
        "1_IM-0001-3.dcm.png",
        "1_IM-0001-4.dcm.png",
        "2_IM-0001-1.dcm.png",
        "4_IM-0001-1.dcm.png",
    ]
    assert found.images["Patient ID"].tolist() == ["1", "1", "2", "4"]
    assert found.images["View Position"].tolist() == ["FRONTAL", "L", "FRONTAL", "FRONTAL"]
    assert found.images["path"][0] == "images/images_normalized/1_IM-0001-3.dcm.png"
    assert found.truth[2][NAMES.index("Cardiomegaly")] == MAYBE
    dataset = assemble(folder, found, ReadOptions(uncertain="ones"))
    assert cells(dataset) == {
        "1_IM-0001-3.dcm.png": "No Finding",
        "2_IM-0001-1.dcm.png": "Cardiomegaly|Support Devices",
        "4_IM-0001-1.dcm.png": "Pleural_Thickening",
    }
    assert "1 images are not frontal: left out (L 1)" in " ".join(dataset.notices)


def test_what_is_left_out_is_said(folder):
    assert openi(folder).notices == (
        "1 images have a report that nobody indexed, or of which only the quality of the film is "
        "said: left out.",
        "1 images have no report: left out.",
        "1 reports have no image: left out.",
        "1 terms of reports are no label here (most: thoracic vertebrae 1); they say only that a "
        "film is not normal.",
    )


def test_it_is_recognised(folder, tmp_path):
    assert reader_of(folder).name == "openi"
    for name in (REPORTS_NAME, PROJECTIONS_NAME):
        (folder / name).unlink()
    write_report(folder, 1, ["normal"], [])
    assert reader_of(folder).name == "openi"


def test_problems_serve_where_mesh_is_not_there(folder):
    path = folder / REPORTS_NAME
    path.write_text(path.read_text().replace("uid,MeSH,", "uid,other,"))
    found = openi(folder)
    assert found.truth[2][NAMES.index("Cardiomegaly")] == 1


def test_nlms_reports(tmp_path):
    write_report(tmp_path, 7, ["Pulmonary Atelectasis/base", "Hydropneumothorax"], ["CXR7_IM-1-1"])
    write_report(tmp_path, 8, ["normal"], ["CXR8_IM-2-1", "CXR8_IM-2-2"])
    write_report(tmp_path, 9, ["No Indexing"], ["CXR9_IM-3-1"])
    write_report(tmp_path, 10, [], [])
    write_films(tmp_path / "NLMCXR_png", ["CXR7_IM-1-1.png", "CXR8_IM-2-1.png", "CXR8_IM-2-2.png"])
    found = openi(tmp_path)
    dataset = assemble(tmp_path, found, ReadOptions())
    assert cells(dataset) == {
        "CXR7_IM-1-1.png": "Atelectasis|Effusion|Pneumothorax",
        "CXR8_IM-2-1.png": "No Finding",
        "CXR8_IM-2-2.png": "No Finding",
    }
    assert dataset.table["Patient ID"].tolist() == ["7", "8", "8"]
    assert "View Position" not in dataset.table.columns
    assert (
        f"The reports say no view, so lateral films are among these; {PROJECTIONS_NAME} in "
        f"{tmp_path} says it." in found.notices
    )
    write_csv(
        tmp_path / PROJECTIONS_NAME,
        "uid,filename,projection",
        "7,7_IM-1-1.dcm.png,Frontal",
        "8,8_IM-2-2.dcm.png,Lateral",
    )
    assert openi(tmp_path).images["View Position"].tolist() == ["FRONTAL", "", "L"]


@pytest.mark.parametrize(
    ("term", "labels"),
    [
        ("normal", ("No Finding",)),
        ("Opacity/lung/base/left", ("Lung Opacity",)),
        ("Cardiac Shadow/enlarged/mild", ("Cardiomegaly",)),
        ("Cardiac Shadow/irregular", ()),
        ("Thickening/pleura", ("Pleural_Thickening",)),
        ("Thickening/bronchovascular", ()),
        ("Hemopneumothorax", ("Effusion", "Pneumothorax")),
        ("Subcutaneous  Emphysema", ()),
        ("Cystic Fibrosis", ()),
        (" Fractures,  Bone / ribs", ("Fracture",)),
        ("Lung/hypoinflation", ()),
    ],
)
def test_what_a_term_means(term, labels):
    assert labels_of(term) == labels


def test_normal_beside_another_term_is_not_normal(folder):
    path = folder / REPORTS_NAME
    path.write_text(path.read_text().replace("1,normal,normal", "1,normal;Scoliosis,normal"))
    assert not openi(folder).truth[0].any()


def test_certain_beats_borderline(folder):
    path = folder / REPORTS_NAME
    both = "Cardiomegaly/borderline;Cardiac Shadow/enlarged;Cardiomegaly/borderline"
    path.write_text(path.read_text().replace("1,normal,normal", f"1,{both},x"))
    assert openi(folder).truth[0][NAMES.index("Cardiomegaly")] == 1


@pytest.mark.parametrize(
    ("name", "lines", "says"),
    [
        (REPORTS_NAME, ["uid,image", "1,x"], "lacks the column 'MeSH'. Received the columns"),
        (REPORTS_NAME, ["uid,MeSH", "1,x", "1,y"], "has two rows for uid 1. Keep one row for each"),
        (PROJECTIONS_NAME, ["uid,filename", "1,x"], "lacks the column 'projection'"),
        (
            PROJECTIONS_NAME,
            ["uid,filename,projection", "1,x,Frontal", "1,y,Oblique"],
            "the column 'projection' holds 'Oblique' in row 3. It should be Frontal or Lateral.",
        ),
        (
            PROJECTIONS_NAME,
            ["uid,filename,projection", "3,x,Frontal"],
            "has no image whose report says what is on it. Fetch the reports",
        ),
    ],
)
def test_tables_that_cannot_be_used(folder, name, lines, says):
    write_csv(folder / name, *lines)
    assert says in refusal(openi, folder)


def test_tables_and_reports_that_are_missing_or_broken(folder, tmp_path):
    (folder / PROJECTIONS_NAME).unlink()
    assert "is missing: it says which images a report is of." in refusal(openi, folder)
    (folder / REPORTS_NAME).unlink()
    write_report(folder, 1, ["normal"], ["a"])
    path = folder / "ecgen-radiology" / "2.xml"
    path.write_text("<eCitation>")
    text = refusal(openi, folder)
    assert text.startswith(f"{path} cannot be read as a report (no element found")
    assert text.endswith("Unpack the reports again.")


@pytest.mark.slow
def test_nlms_own_reports_against_finding_their_terms_by_pattern(tmp_path):
    shutil.unpack_archive(real_table("NLMCXR_reports.tgz"), tmp_path)
    found = openi(tmp_path)
    expected: dict[str, set[str]] = {}
    left_out = 0
    for path in (tmp_path / "ecgen-radiology").glob("*.xml"):
        text = path.read_text(encoding="utf-8")
        terms = [term.strip().lower() for term in re.findall("<major>([^<]*)</major>", text)]
        names = set()
        for term in terms:
            first, *others = term.split("/")
            for known, needed, labels in TERMS:
                if first == known and (needed is None or needed in others):
                    names |= set(labels)
        images = re.findall('<parentImage id="([^"]*)"', text)
        if terms == ["no indexing"] or terms == ["technical quality of image unsatisfactory"]:
            left_out += len(images)
        else:
            expected |= {f"{image}.png": names for image in images}
    assert set(found.images["Image Index"]) == set(expected)
    assert f"{left_out:,} images have a report that nobody indexed" in said(found)
    for name, row in zip(found.images["Image Index"], found.truth, strict=True):
        assert {label for label, value in zip(NAMES, row, strict=True) if value} == expected[name]
    counts = Counter(label for names in expected.values() for label in names)
    assert min(counts[name] for name in NAMES) > 0
    assert found.images["Patient ID"].nunique() > 3_700
