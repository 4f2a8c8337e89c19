"""The page of `serve` in a real browser, as a person uses it."""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import pytest
from helpers.web import serving

from cxr_keras import evaluate, train
from cxr_keras.runs.model_file import read_card
from cxr_keras.serving.web.app import Application
from cxr_keras.serving.web.known import KnownImages
from cxr_keras.serving.web.served import open_runs

pytestmark = pytest.mark.slow
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if not (CHROMIUM and DRIVER):
    pytest.skip("needs chromium and chromedriver", allow_module_level=True)
webdriver = pytest.importorskip("selenium.webdriver")
ui = pytest.importorskip("selenium.webdriver.support.ui")
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
Select, CSS = ui.Select, "css selector"
WIDE, PHONE = (1280, 900), (390, 844)


class Page:
    """The page in a browser."""

    def __init__(self, driver, url):
        self.driver, self.url = driver, url
        driver.get(url)
        self.until(lambda: Select(self.one("#run-a")).options)

    def one(self, css):
        return self.driver.find_element(CSS, css)

    def all(self, css):
        return self.driver.find_elements(CSS, css)

    def until(self, happens, seconds=30):
        """Wait for it; what it gave."""
        return ui.WebDriverWait(self.driver, seconds).until(lambda driver: happens())

    def drop(self, files):
        """Choose files, and wait until each is answered."""
        self.one("#file-input").send_keys("\n".join(map(str, files)))
        self.until(lambda: f"{len(files)} of {len(files)} done" in self.one("#progress").text)

    def show_map(self, label):
        """Click a finding, and wait for its heat map."""
        self.one(f"button[data-label={label!r}], [data-label={label!r}] button").click()
        return self.map_state()

    def map_state(self):
        """What stands below the image once its heat map is there."""
        said = lambda: self.one("#map-state").text  # noqa: E731
        self.until(lambda: said() and "Loading" not in said())
        return said()

    def open_split(self):
        self.one("#tab-split").click()
        self.until(lambda: self.all("#split-list [data-name]"))

    def drawn(self):
        """Wait until the page has drawn what changed, which it does once a frame."""
        two_frames = "requestAnimationFrame(() => requestAnimationFrame(() => done()))"
        self.driver.execute_async_script(f"const done = arguments[0]; {two_frames}")

    def number(self, name):
        """A number of the table at the threshold; None where it is undefined."""
        self.drawn()
        text = self.one(f"#n-{name}").text.replace(",", "")
        return None if text == "undefined" else float(text.split()[0])

    def evaluate(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)


@pytest.fixture(scope="module")
def second(phantoms, tiny_model, tmp_path_factory):
    """The same network with another seed."""
    folder = tmp_path_factory.mktemp("second")
    return train(tiny_model, phantoms, epochs=3, lr=2e-3, seed=9, folder=folder, name="second")


@pytest.fixture(scope="module")
def server(run, second, phantoms):
    served = open_runs([run.folder, second.folder], "float32")
    known = KnownImages((phantoms,))
    with serving(Application(served, hosts=["127.0.0.1"], truth=known)) as client:
        yield client


@pytest.fixture
def page(server, tmp_path, request):
    """The page; afterwards, nothing was wrong in its console and nothing left this machine."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    size = "{},{}".format(*WIDE)
    downloads = {"download.default_directory": str(tmp_path / "downloads")}
    options.add_experimental_option("prefs", downloads)
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.add_argument(f"--window-size={size}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield Page(driver, server.url + "/")
        assert driver.get_log("browser") == []
        hosts = set(requested(driver))
        assert hosts <= {server.url, "blob:"}, hosts
    finally:
        driver.quit()


def requested(driver):
    """Scheme, host and port of every request that the browser made."""
    for line in driver.get_log("performance"):
        message = json.loads(line["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            yield "blob:" if url.startswith("blob:") else re.match(r"\w+://[^/]*", url)[0]


@pytest.fixture(scope="module")
def images(phantoms):
    return sorted((phantoms / "images").iterdir())


def test_five_files_of_which_one_is_broken(page, images, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(images[0].read_bytes()[:300])
    page.drop([*images[:4], broken])
    rows = {row.get_attribute("data-name"): row for row in page.all("#file-list [data-name]")}
    assert list(rows) == [*(image.name for image in images[:4]), "broken.png"]
    assert "decoded" in rows["broken.png"].text
    rows[images[1].name].click()
    label = page.until(lambda: page.all("[data-label]"))[0].get_attribute("data-label")
    assert page.show_map(label) in (
        f"Heat map of {label}",
        "Nothing in the layer speaks for this finding: no map.",
    )
    page.one("#export-images").click()
    (table,) = page.until(lambda: list((tmp_path / "downloads").glob("*.csv")))
    lines = table.read_text(encoding="utf-8-sig").splitlines()
    assert len(lines) == 6
    assert "prob_Mass" in lines[0]


def test_an_error_and_then_another_image_by_keyboard(page, images):
    page.drop(images[:3])
    page.one("#file-list [data-name]").click()
    page.until(lambda: page.all("[data-label]"))
    body = page.one("body")
    names = [image.name for image in images[:3]]
    shown = lambda: page.one("#reader-images h2, #reader-images h3").text  # noqa: E731
    page.until(lambda: shown() == names[0])
    page.one("#file-list").send_keys("n")
    page.until(lambda: shown() == names[1])
    body.send_keys("p")
    page.until(lambda: shown() == names[0])
    pressed = page.one("#map-toggle").get_attribute("aria-pressed")
    body.send_keys("m")
    page.until(lambda: page.one("#map-toggle").get_attribute("aria-pressed") != pressed)
    body.send_keys("?")
    assert page.until(lambda: page.one("#help").is_displayed())
    body.send_keys(Keys.ESCAPE)
    page.until(lambda: not page.one("#help").is_displayed())


def test_the_numbers_at_a_threshold_are_those_of_evaluate(page, run, tmp_path):
    page.open_split()
    for threshold in (0.3, 0.5, 0.55):
        table = evaluate(run.folder, thresholds=threshold, resamples=0, out=tmp_path / "e").metrics
        for label in ("Mass", "Effusion", "No Finding"):
            Select(page.one("#finding")).select_by_value(label)
            box = page.one("#threshold-number")
            box.clear()
            box.send_keys(str(threshold), Keys.TAB)
            expected = table.set_index("label").loc[label]
            found = {name: page.number(name) for name in ("precision", "recall", "f1", "accuracy")}
            for name, value in found.items():
                if value is None:
                    assert not expected[name] > 0  # undefined, or the tables' 0
                else:
                    assert value == pytest.approx(expected[name], abs=6e-4)
            assert page.number("tp") + page.number("fn") == expected["support"]
            auroc = page.number("auroc")
            assert auroc == pytest.approx(expected["auroc"], abs=6e-4, nan_ok=True)
    page.one("#threshold-reset").click()
    own = read_card(run.folder).thresholds[read_card(run.folder).labels.index("No Finding")]
    shown = float(page.one("#threshold-number").get_attribute("value"))
    assert shown == pytest.approx(own, abs=6e-5)


def test_the_list_is_sorted_and_filtered_and_a_row_opens_its_image(page, run):
    page.open_split()
    Select(page.one("#finding")).select_by_value("Effusion")
    total = len(page.all("#split-list [data-name]"))
    box = page.one("#threshold-number")
    box.clear()
    box.send_keys("0", Keys.TAB)  # everything is predicted
    counts = {name: page.number(name) for name in ("tp", "fp", "fn", "tn")}
    assert counts["fn"] == counts["tn"] == 0
    outcomes = [option.get_attribute("value") for option in Select(page.one("#outcome")).options]
    found = {}
    for value in outcomes:
        Select(page.one("#outcome")).select_by_value(value)
        found[value] = len(page.all("#split-list [data-name]"))
    assert found["false alarm"] == counts["fp"]
    assert found["found"] == counts["tp"]
    assert found["missed"] == 0
    Select(page.one("#outcome")).select_by_index(0)
    assert len(page.all("#split-list [data-name]")) == total
    row = page.all("#split-list [data-name]")[2]
    name = row.get_attribute("data-name")
    row.click()
    page.until(lambda: name in page.one("#reader-split").text)
    assert page.map_state()


def test_two_runs_side_by_side(page, images, run):
    Select(page.one("#run-b")).select_by_value("second")
    page.drop(images[:2])
    page.one("#file-list [data-name]").click()
    page.until(lambda: len(page.all("canvas")) >= 2 and page.one("#viewer-b").is_displayed())
    page.until(lambda: len(page.all("[data-label='Mass']")) == 2)


def test_the_image_can_be_windowed_zoomed_and_looked_at_without_its_map(page, images):
    page.drop(images[:1])
    page.one("#file-list [data-name]").click()
    canvas = page.until(lambda: page.one("#viewer-a"))
    picture = lambda: page.evaluate("return arguments[0].toDataURL()", canvas)  # noqa: E731
    page.until(lambda: len(picture()) > 2000)
    before = picture()
    drag = webdriver.ActionChains(page.driver).click_and_hold(canvas).move_by_offset(60, 30)
    drag.release().perform()
    page.until(lambda: picture() != before)
    windowed = picture()
    wheel = webdriver.ActionChains(page.driver)
    origin = webdriver.common.actions.wheel_input.ScrollOrigin.from_element(canvas)
    wheel.scroll_from_origin(origin, 0, -240).perform()
    page.until(lambda: picture() != windowed)


def phone(page):
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": PHONE[0], "height": PHONE[1], "deviceScaleFactor": 1, "mobile": True},
    )


def test_on_a_phone_nothing_is_wider_than_the_screen(page, images):
    phone(page)
    wide = "return document.documentElement.scrollWidth"
    page.drop(images[:2])
    page.one("#file-list [data-name]").click()
    page.until(lambda: page.all("[data-label]"))
    assert page.evaluate(wide) <= PHONE[0]
    page.open_split()
    assert page.evaluate(wide) <= PHONE[0]
    page.one("#tab-model").click()
    assert page.evaluate(wide) <= PHONE[0]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_and_every_view_says_research(page, images, theme):
    spec = importlib.util.find_spec("axe_playwright_python")
    if spec is None:
        pytest.skip("axe-core is not here: pip install --no-deps axe-playwright-python")
    axe = Path(spec.submodule_search_locations[0], "axe.min.js").read_text(encoding="utf-8")
    scheme = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    page.drop(images[:2])
    page.one("#file-list [data-name]").click()
    page.until(lambda: page.all("[data-label]"))
    page.evaluate(axe)
    for tab in ("images", "split", "model"):
        page.one(f"#tab-{tab}").click()
        if tab == "split":
            page.until(lambda: page.all("#split-list [data-name]"))
        assert "Not for diagnosis" in page.one("#banner").text
        found = page.driver.execute_async_script(
            "const done = arguments[0]; axe.run().then((r) => done(r.violations))"
        )
        assert [(one["id"], [n["target"] for n in one["nodes"]]) for one in found] == []


def test_a_token_is_asked_for(run, page):
    served = open_runs([run.folder], "float32")
    token = "a-token-of-some-letters"
    with serving(Application(served, hosts=["127.0.0.1"], token=token)) as client:
        page.driver.get(client.url + "/")
        form = page.until(lambda: page.one("#token-input"))
        page.until(form.is_displayed)
        form.send_keys(token, Keys.ENTER)
        page.until(lambda: Select(page.one("#run-a")).options)
        (refused,) = page.driver.get_log("browser")  # that the first request was answered by 401
        assert "401" in refused["message"]
        list(requested(page.driver))
