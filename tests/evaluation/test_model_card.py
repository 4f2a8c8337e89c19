"""`card`: a page of what the file and the run folder know, and nothing else."""

import re
import shutil
from html.parser import HTMLParser

import pandas as pd
from click.testing import CliRunner
from helpers.refusals import refusal

from cxr_keras import calibrate
from cxr_keras.cli import main
from cxr_keras.evaluation.document import Document, Table
from cxr_keras.evaluation.model_card import write_card
from cxr_keras.runs.model_file import read_card


def written(run, tmp_path, *options):
    target = tmp_path / "card.md"
    result = CliRunner().invoke(main, ["card", str(run), "--out", str(target), *options])
    assert result.exit_code == 0, result.output
    return target.read_text(encoding="utf-8")


def test_the_numbers_are_those_of_the_tables(run, tmp_path):
    text = written(run.folder, tmp_path)
    metrics = pd.read_csv(run.folder / "metrics.csv").set_index("label")
    for label in read_card(run.folder).labels:
        (line,) = re.findall(rf"^\| {label} \| \d+ \|.*$", text, re.MULTILINE)
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert int(cells[1]) == metrics.loc[label, "support"]
        if not pd.isna(metrics.loc[label, "auroc"]):
            assert cells[2].startswith(f"{metrics.loc[label, 'auroc']:.3f}")
    assert "Research and teaching" in text
    assert "phantoms" in text
    assert read_card(run.folder).data["fingerprint"] in text
    assert "random weights" in text or "does not say what weights" in text


def test_it_lies_in_the_run_folder_unless_told_otherwise(copy):
    assert write_card(copy) == copy / "card.md"
    assert "file extension" not in (copy / "card.md").read_text(encoding="utf-8")


def test_a_private_card_names_no_data_and_no_digest(run, tmp_path):
    data = read_card(run.folder).data
    assert f"called {data['root']}" in written(run.folder, tmp_path)
    text = written(run.folder, tmp_path, "--private")
    for secret in (f"called {data['root']}", "| data |", data["fingerprint"], data["split_digest"]):
        assert secret not in text
    assert not re.search(r"[0-9a-f]{16}", text)
    assert str(tmp_path) not in text


def test_a_file_on_its_own_says_where_its_numbers_are(run, tmp_path):
    shutil.copy(run.folder / "model.keras", tmp_path / "net.keras")
    text = written(tmp_path / "net.keras", tmp_path)
    assert "its numbers stand in its run folder" in text
    assert "AUROC" not in text


def test_a_network_without_a_test_split_says_so_first(no_test_run, tmp_path):
    text = written(no_test_run.folder, tmp_path)
    assert text.index("no test split") < text.index("Intended use")
    assert "Of its validation split" in text


class Tags(HTMLParser):
    """The open tags of a page, which must close in order."""

    def __init__(self):
        super().__init__()
        self.open, self.cells = [], []

    def handle_starttag(self, tag, attrs):
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "p"):
            self.cells.append(data)


def test_the_html_page_is_whole_and_fetches_nothing(run, tmp_path):
    page = write_card(run.folder, tmp_path / "card.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    assert not tags.open
    assert "Effusion" in tags.cells
    assert not re.search(r"(src|href)=|url\(|@import|<script", page)


def test_names_of_labels_are_texts_and_no_markup():
    label = "<script>alert(1)</script> | `x` *y* [z](w) A_b"
    made = Document("#t").to_markdown()
    assert made == "# \\#t\n"
    document = Document("t")
    document.add("s", Table(["h"], [[label]]), "", Table(["h"], []))
    document.add("empty", "", Table(["h"], []))
    assert "empty" not in document.sections
    tags = Tags()
    tags.feed(document.to_html())
    assert tags.cells == [label]
    (cell,) = re.findall(r"^\| (<|\\<)script.*\|$", document.to_markdown(), re.MULTILINE)
    assert cell == "\\<"
    assert "\\| \\`x\\` \\*y\\* \\[z\\](w) A_b" in document.to_markdown()


def test_a_card_is_markdown_or_html(run, tmp_path):
    assert ".md or .html" in refusal(write_card, run.folder, tmp_path / "card.pdf")
    assert "nothing" in refusal(write_card, tmp_path / "nothing")


def test_thresholds_alone_are_no_calibration(copy, tmp_path):
    calibrate(copy, sensitivity=0.9, resamples=0)
    text = written(copy, tmp_path)
    assert "Its probabilities are not calibrated; thresholds were chosen on validation." in text
    assert "Thresholds were chosen for a sensitivity of 0.9." in text
    assert "Calibrated on" not in text
