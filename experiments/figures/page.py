"""Draw docs/page.png and docs/page_split.png: the page of `serve` in Chromium.

python experiments/figures/page.py RUN PHANTOMS

RUN is a run folder, as the README's first command makes it; PHANTOMS is the data folder that it
drew. Needs the extra serve, selenium, chromium and chromedriver.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pandas as pd
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from cxr_keras.data.boxes import read_boxes

DOCS = Path(__file__).resolve().parents[2] / "docs"
SIZE, PHONE = (1280, 820), (390, 844)


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("phantoms", type=Path)
    parser.add_argument("--out", type=Path, default=DOCS)
    parser.add_argument("--all", action="store_true", help="Also dark and on a phone, to look at.")
    options = parser.parse_args()
    tested = pd.read_csv(options.run / "predictions.csv")["Image Index"]
    boxed = [name for name in tested if name in set(read_boxes(options.phantoms)["Image Index"])]
    files = [options.phantoms / "images" / name for name in boxed[:8]]
    with serving(options.run, options.phantoms) as url:
        draw(url, files, options.out, SIZE, "")
        if options.all:
            draw(url, files, options.out, SIZE, "_dark", dark=True)
            draw(url, files, options.out, PHONE, "_phone")
            draw(url, files, options.out, PHONE, "_phone_dark", dark=True)


@contextmanager
def serving(run: Path, truth: Path) -> Iterator[str]:
    """`cxr-keras serve` for the body's duration; its address."""
    command = [sys.executable, "-m", "cxr_keras", "serve", str(run), "--truth", str(truth)]
    process = subprocess.Popen([*command, "--port", "0"], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        yield next(m[0] for line in process.stderr if (m := re.search(r"http://[^ ]*", line)))
    finally:
        process.terminate()
        process.wait()


def draw(
    url: str, files: list[Path], out: Path, size: tuple[int, int], suffix: str, dark: bool = False
) -> None:
    """Screenshots of the three views."""
    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--force-device-scale-factor=1"):
        options.add_argument(flag)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    try:
        driver.get(url)
        one = lambda css: driver.find_element(By.CSS_SELECTOR, css)  # noqa: E731
        until = lambda happens: WebDriverWait(driver, 60).until(lambda _: happens())  # noqa: E731
        until(lambda: one("#run-a option"))
        one("#file-input").send_keys("\n".join(map(str, files)))
        until(lambda: "done" in one("#progress").text)
        one("#file-list [data-name]").click()
        until(lambda: driver.find_elements(By.CSS_SELECTOR, "[data-label]"))
        one("[data-label]").click()
        until(lambda: one("#map-state").text)
        time.sleep(1)
        save(driver, out / f"page{suffix}.png")
        one("#tab-split").click()
        until(lambda: one("#split-list [data-name]")).click()
        time.sleep(3)
        save(driver, out / f"page_split{suffix}.png")
        one("#tab-model").click()
        time.sleep(1)
        if suffix:
            save(driver, out / f"page_model{suffix}.png")
    finally:
        driver.quit()


def save(driver: webdriver.Chrome, file: Path) -> None:
    """A screenshot in 256 colours, a third as large."""
    Image.open(BytesIO(driver.get_screenshot_as_png())).convert("RGB").quantize(256).save(
        file, optimize=True
    )


if __name__ == "__main__":
    main()
