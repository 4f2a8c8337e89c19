"""Tables of real data sets, read as any table, against reading them row by row."""

from __future__ import annotations

import csv
import gzip

import pytest
from helpers.real_tables import real_table

from cxr_keras.data.readers.table import read_table

YES, NO, MAYBE, UNSAID = 1, 0, -1, -2


def column(found, name):
    return found.images[name].tolist()


@pytest.mark.slow
def test_nihs_own_table_against_reading_it_row_by_row(tmp_path):
    source = real_table("Data_Entry_2017_v2020.csv.gz")
    found = read_table(source, tmp_path)
    place = {name: index for index, name in enumerate(found.labels.names)}
    assert len(place) == 15
    read, names, patients = (
        found.truth.tolist(),
        column(found, "Image Index"),
        column(found, "Patient ID"),
    )
    with gzip.open(source, "rt", newline="") as file:
        for row, line in enumerate(csv.DictReader(file)):
            truth = [NO] * 15
            for name in line["Finding Labels"].split("|"):
                truth[place[name]] = YES
            assert read[row] == truth
            assert names[row] == line["Image Index"]
            assert patients[row] == line["Patient ID"]
    assert row == len(read) - 1 == 112_119


@pytest.mark.slow
def test_chexperts_table_against_reading_it_row_by_row(tmp_path):
    source = real_table("chexpert_train.csv.gz")
    found = read_table(source, tmp_path)
    read, images, ages = (
        found.truth.tolist(),
        column(found, "Image Index"),
        column(found, "Patient Age"),
    )
    values = {"": UNSAID, "1.0": YES, "0.0": NO, "-1.0": MAYBE}
    with gzip.open(source, "rt", newline="") as file:
        reader = csv.DictReader(file)
        names = reader.fieldnames[5:]
        assert list(found.labels.names) == names
        assert found.labels.normal == "No Finding"
        for row, line in enumerate(reader):
            assert read[row] == [values[line[name]] for name in names]
            assert images[row] == line["Path"]
            assert ages[row] == float(line["Age"])
    assert row == len(read) - 1
