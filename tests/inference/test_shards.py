"""A prediction in parts, and the parts put together."""

import csv

import pytest
from click.testing import CliRunner
from helpers.refusals import refusal
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cxr_keras import predict
from cxr_keras.cli import main
from cxr_keras.inference.shards import merge_parts, parse_shard, share_of


@given(st.lists(st.integers()), st.integers(1, 9))
def test_the_shares_are_all_items_in_order_and_of_nearly_one_size(items, parts):
    shares = [share_of(items, f"{part}/{parts}") for part in range(1, parts + 1)]
    assert [item for _, share in shares for item in share] == items
    assert [start for start, _ in shares] == [
        sum(len(share) for _, share in shares[:i]) for i in range(parts)
    ]
    sizes = [len(share) for _, share in shares]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("text", ["0/4", "5/4", "3", "3/0", "a/b", "-1/4", "1/4/2", ""])
def test_what_is_no_shard(text):
    assert f"such as 3/16. Received: {text!r}" in refusal(parse_shard, text)


@pytest.fixture
def parts(run, phantoms, tmp_path):
    """Five images and a file that is none, predicted whole and in three parts."""
    films = sorted((phantoms / "images").iterdir())[:5]
    (tmp_path / "broken.png").write_bytes(b"no image")
    images = [*films[:2], tmp_path / "broken.png", *films[2:]]
    predict(run.folder, images, csv_file=tmp_path / "whole.csv")
    names = [tmp_path / f"part{n}.csv" for n in (1, 2, 3)]
    for n, name in enumerate(names, 1):
        assert len(predict(run.folder, images, csv_file=name, shard=f"{n}/3")) == 2
    return names


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_the_parts_are_the_whole_row_by_row(parts, tmp_path):
    target = tmp_path / "new" / "merged.csv"
    assert merge_parts(reversed(parts), target) == 6
    merged, whole = rows_of(target), rows_of(tmp_path / "whole.csv")
    assert merged[0] == whole[0]
    assert [row[0] for row in merged] == [row[0] for row in whole]
    for ours, theirs in zip(merged[1:], whole[1:], strict=True):
        assert ours[-1] == theirs[-1]
        numbers = [[float(cell or "nan") for cell in row[2:-1]] for row in (ours, theirs)]
        assert numbers[0] == pytest.approx(numbers[1], abs=1e-5, nan_ok=True)


def test_a_part_that_is_missing_or_there_twice(parts, tmp_path):
    target = tmp_path / "merged.csv"
    said = refusal(merge_parts, [parts[0], parts[2]], target)
    assert "Of 6 images 2 are missing, the first at place 3. Name every part once (2 were" in said
    said = refusal(merge_parts, [*parts, parts[1]], target)
    assert "Of 6 images 2 are there twice, the first at place 3." in said
    assert not target.exists()


def test_what_is_no_part_of_this_whole(parts, run, phantoms, tmp_path):
    target = tmp_path / "merged.csv"
    assert "is no part of a prediction" in refusal(merge_parts, [tmp_path / "whole.csv"], target)
    (tmp_path / "empty.csv").touch()
    assert "cannot be read as a table" in refusal(merge_parts, [tmp_path / "empty.csv"], target)
    other = sorted((phantoms / "images").iterdir())[:4]
    predict(run.folder, other, csv_file=tmp_path / "other.csv", shard="2/2")
    said = refusal(merge_parts, [*parts[:2], tmp_path / "other.csv"], target)
    assert "other.csv is a part of another whole than" in said


def test_more_parts_than_images_on_the_command_line(run, phantoms, tmp_path):
    film = str(next((phantoms / "images").iterdir()))
    for part in (1, 2):
        line = ["predict", str(run.folder), film, "--shard", f"{part}/2"]
        result = CliRunner().invoke(main, [*line, "--csv", str(tmp_path / f"{part}.csv")])
        assert result.exit_code == 0, result.output
    line = ["merge", str(tmp_path / "1.csv"), str(tmp_path / "2.csv"), "--csv"]
    result = CliRunner().invoke(main, [*line, str(tmp_path / "all.csv")])
    assert result.exit_code == 0, result.output
    assert [row[0] for row in rows_of(tmp_path / "all.csv")] == ["path", film]


def test_parts_draw_heat_maps_under_the_names_of_the_whole(run, phantoms, tmp_path):
    image = next((phantoms / "images").iterdir())
    for patient in ("A", "B"):
        (tmp_path / patient).mkdir()
        small = Image.open(image).resize((200, 200))
        small.save(tmp_path / patient / "IM1.png")
    for part in ("1/3", "2/3", "3/3"):  # one of them is empty
        predict(
            run.folder, [tmp_path / "A", tmp_path / "B"], shard=part, heatmaps=tmp_path / "maps"
        )
    assert {path.name.split(".")[0] for path in (tmp_path / "maps").iterdir()} == {
        "A__IM1",
        "B__IM1",
    }
