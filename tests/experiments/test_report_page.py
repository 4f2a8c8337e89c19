"""The report's page and its figures."""

import json
import re
import shutil
import subprocess

import pytest
from helpers.experiments import C11
from report import figures, grid, paper, results

from cxr_keras import LABELS

pytestmark = pytest.mark.slow  # the whole report is made first


def test_the_page_loads_nothing_from_anywhere(page):
    assert not re.findall(r"""(?:src|href|action)=["']?\s*(?:https?:)?//""", page)
    assert not re.findall(r"@import|url\(|fetch\(|XMLHttpRequest|<link|<iframe", page)
    assert set(re.findall(r'src="(data:[a-z/+]+)', page)) == {"data:image/svg+xml"}
    assert len(page) < 8e6
    assert '<meta name="viewport"' in page


def test_every_table_of_the_page_sorts_and_names_its_run_folder(page, report):
    tables = re.findall(r"<table .*?</table>", page, re.DOTALL)
    names = [re.search(r'data-name="([^"]+)"', table)[1] for table in tables]
    assert {"grid", "C1", "C14", "C11", "C11-calibrated", "Table-1", "Table-4"} <= set(names)
    for table in tables:
        heads = re.findall(r'<th scope="col".*?</th>', table, re.DOTALL)
        assert heads
        assert all('aria-sort="none"' in head and "<button" in head for head in heads)
        columns = [int(place) for place in re.findall(r'data-column="(\d+)"', table)]
        first = re.search(r"<tbody>\n<tr.*?</tr>", table, re.DOTALL)[0]
        assert sorted(columns) == list(range(len(re.findall(r"<t[dh][ >]", first))))
    assert f'href="{C11}/"' in tables[names.index("C11")]
    assert json.loads((report / C11 / "run.json").read_text())["data"]["fingerprint"] in page
    for target in re.findall(r'href="#([^"]+)"', page):
        assert f'id="{target}"' in page, target


def test_figures_are_png_and_svg_and_the_images_are_missed_aloud(report, page):
    names = {path.name for path in (report / "figures").iterdir()}
    for figure in ("2", "3", "10", "11", "B5", "B6"):
        assert {f"Figure-{figure}.png", f"Figure-{figure}.svg"} <= names
    assert "Not drawn, for want of a run: C1, C2." in page
    assert "are not on this machine" in page


def test_the_same_numbers_give_the_same_figure_files(report, tmp_path):
    plans = tuple(map(grid.shortened, grid.PLANS))
    found = results.Report(report, "runs-quick", plans, {}, {}, {})
    picture = next(figures.pictures(found))
    figures.save(picture, tmp_path)
    for suffix in (".png", ".svg"):
        again = (tmp_path / f"Figure-2{suffix}").read_bytes()
        figures.save(picture, tmp_path)
        assert (tmp_path / f"Figure-2{suffix}").read_bytes() == again
    assert b"<dc:date>" not in again


def chromium():
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return next(filter(None, map(shutil.which, names)), None)


@pytest.mark.skipif(chromium() is None, reason="no Chromium on this machine")
def test_a_browser_sorts_the_page_and_shows_the_known_cell(report, tmp_path):
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    address = (report / "index.html").as_uri() + "#C12~precision_report~descending"
    done = subprocess.run(
        [chromium(), *options, "--virtual-time-budget=3000", "--dump-dom", address],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    table = done.stdout.split('data-name="C12"', 1)[1].split("</table>")[0]
    assert re.search(r'aria-sort="descending" data-key="precision_report"', table)
    rows = re.findall(r'<tr class="label"><th scope="row">([^<]+)</th>(.*?)</tr>', table)
    published = paper.published()["C12"]["precision"]
    order = published.reindex(LABELS).sort_values(ascending=False, kind="stable")
    assert [label for label, _ in rows] == order.index.tolist()
    cell = re.findall(r"<td[^>]*>([^<]*)</td>", rows[0][1])[3]
    assert cell == f"{order.iloc[0]:.3f}"
