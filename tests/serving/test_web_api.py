"""The HTTP API of `serve`: its answers are the command line's, its errors are sentences."""

import json
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from helpers.dicom_files import SECRET_ID, SECRET_NAME, as_bytes, film, written
from helpers.web import serving
from PIL import Image

from cxr_keras import predict
from cxr_keras.data.images import read_image
from cxr_keras.inference.heat_maps import heat_maps
from cxr_keras.inference.opened import Opened
from cxr_keras.runs.model_file import load_model, read_card
from cxr_keras.serving.web.app import Application
from cxr_keras.serving.web.known import KnownImages
from cxr_keras.serving.web.served import open_runs


@pytest.fixture(scope="module")
def api(run, phantoms):
    served = open_runs([run.folder], "float32")
    application = Application(served, hosts=["127.0.0.1"], truth=KnownImages((phantoms,)))
    with serving(application) as client:
        yield client


@pytest.fixture(scope="module")
def images(phantoms):
    return sorted((phantoms / "images").iterdir())


def png(response):
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/png"
    return np.asarray(Image.open(BytesIO(response.content)))


def problem(response, status):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    said = response.json()
    assert said["status"] == status
    return said["detail"]


def test_predictions_are_those_of_predict(api, run, images):
    answer = api.post("/v1/predict", *images[:5]).json()
    assert answer["run"] == run.folder.name
    rows = predict(run.folder, images[:5])
    for result, row in zip(answer["results"], rows, strict=True):
        assert result["name"] == row.path.name
        assert tuple(result["findings"]) == row.findings
        assert result["probabilities"] == pytest.approx(row.probabilities, abs=2e-6)


def test_a_file_that_cannot_be_read_is_a_result_with_its_error(api, images):
    files = [images[0], ("report.pdf", b"%PDF-1.4"), ("empty.png", b""), images[1]]
    results = api.post("/v1/predict", *files).json()["results"]
    assert [bool(result["error"]) for result in results] == [False, True, True, False]
    assert results[1]["error"].startswith("not a PNG, JPEG or DICOM image")
    assert results[1]["probabilities"] == {}


def test_a_dicom_file_answers_with_its_header_and_nobody_else_sees_it(
    api, phantoms, tmp_path, capfd
):
    pixels = np.asarray(Image.open(next((phantoms / "images").iterdir())), "uint16") * 16
    file = written(film(pixels, BitsStored=12), tmp_path / f"{SECRET_NAME}.dcm")
    result = api.post("/v1/predict", file).json()["results"][0]
    assert result["patient_id"] == SECRET_ID
    assert png(api.post("/v1/image", file, field="file")).shape == pixels.shape
    assert SECRET_NAME not in "".join(capfd.readouterr())
    assert SECRET_NAME not in api.get("/metrics").text


def test_the_model_says_what_its_card_says(api, run):
    said = api.get("/v1/model").json()
    assert "Not for diagnosis" in said["notice"]
    one, card = said["runs"][0], read_card(run.folder)
    assert one["labels"] == list(card.labels)
    assert one["thresholds"] == pytest.approx(card.thresholds)
    assert "phantoms" in one["limits"][0]
    metrics = pd.read_csv(run.folder / "metrics.csv")
    assert [row["label"] for row in one["metrics"]] == list(metrics["label"])


def test_the_heat_map_lies_over_the_whole_image(api, run, images, tmp_path):
    card = read_card(run.folder)
    wide = np.zeros((256, 400), "uint8")
    wide[:, 72:328] = np.asarray(Image.open(images[0]).resize((256, 256)))
    Image.fromarray(wide).save(tmp_path / "wide.png")
    explainer = heat_maps(load_model(run.folder))
    square = explainer(read_image(tmp_path / "wide.png", card.framing), range(len(card.labels)))
    place = next(n for n, heat in enumerate(square) if heat.any())
    path = f"/v1/heatmap?label={card.labels[place]}"
    found = png(api.post(path, tmp_path / "wide.png", field="file"))
    assert found.shape == wide.shape  # it is as large as the square is stored
    expected = np.zeros(wide.shape)
    expected[:, 72:328] = square[place] * 255
    np.testing.assert_allclose(found, expected, atol=1)


def test_an_empty_map_has_no_picture(api, run, images, monkeypatch):
    monkeypatch.setattr(
        "cxr_keras.inference.heat_maps.HeatMaps.__call__",
        lambda self, pixels, labels: np.zeros((1, self.side, self.side)),
    )
    answer = api.post("/v1/heatmap?label=Mass", images[0], field="file")
    assert (answer.status_code, answer.content) == (204, b"")


def test_the_test_split_is_what_predictions_csv_holds(api, run, phantoms):
    said = api.get("/v1/results").json()
    table = pd.read_csv(run.folder / "predictions.csv")
    assert said["images"]["image"] == list(table["Image Index"])
    for label in said["labels"]:
        assert said["probabilities"][label] == list(table[f"prob_{label}"])
        assert said["truth"][label] == list(table[f"true_{label}"])
    assert said["images_here"]
    shown = png(api.get("/v1/results/image?row=1"))
    file = phantoms / "images" / table["Image Index"][1]
    np.testing.assert_array_equal(shown, np.asarray(Image.open(file)))
    assert api.get("/v1/results/heatmap?row=1&label=Mass").status_code in (200, 204)


def test_boxes_are_shares_of_the_image(api, run, phantoms):
    boxes = pd.read_csv(phantoms / "BBox_List_2017.csv").iloc[:, :6]
    boxes.columns = ["image", "label", "x", "y", "w", "h"]
    file = phantoms / "images" / boxes["image"][0]
    truth = api.post("/v1/predict", file).json()["results"][0]["truth"]
    expected = boxes[boxes["image"] == file.name]
    assert [box["label"] for box in truth["boxes"]] == list(expected["label"])
    assert [box["x"] for box in truth["boxes"]] == pytest.approx(list(expected["x"] / 1024))
    rows = api.get("/v1/results").json()["images"]["image"]
    found = api.get("/v1/results/boxes?row=0").json()["boxes"]
    assert len(found) == sum(boxes["image"] == rows[0])


def test_what_was_seen_at_a_probability_has_an_interval(api, run):
    table = pd.read_csv(run.folder / "predictions.csv")
    for label, bins in api.get("/v1/model").json()["runs"][0]["observed"].items():
        assert sum(one["images"] for one in bins) == len(table)
        for one in bins:
            inside = table[f"prob_{label}"].between(one["low"], one["high"], inclusive="left")
            inside |= (table[f"prob_{label}"] == 1) & (one["high"] == 1)
            assert one["rate"] == pytest.approx(table.loc[inside, f"true_{label}"].mean())
            assert 0 <= one["rate_low"] <= one["rate"] <= one["rate_high"] <= 1
            assert one["rate_high"] > one["rate_low"]


def test_errors_are_sentences(api, images):
    assert "There is no run 'x'" in problem(api.post("/v1/predict?run=x", images[0]), 404)
    assert "has no label 'x'" in problem(
        api.post("/v1/heatmap?label=x", images[0], field="file"), 404
    )
    assert "no heat map method 'x'" in problem(
        api.post("/v1/heatmap?label=Mass&method=x", images[0], field="file"), 422
    )
    assert "label: Field required" in problem(api.post("/v1/heatmap", images[0], field="file"), 422)
    assert "multipart/form-data" in problem(api.post("/v1/predict", data="x"), 415)
    assert "Received: the field 'file'" in problem(
        api.post("/v1/predict", images[0], field="file"), 422
    )
    assert "not a PNG" in problem(api.post("/v1/image", ("x", b"x"), field="file"), 422)
    assert "8 images to show" in problem(api.get("/v1/results/image?row=99999"), 404)
    assert "greater than or equal to 0" in problem(api.get("/v1/results/image?row=-1"), 422)
    assert "Not Found" in problem(api.get("/v1/../../etc/passwd"), 404)
    assert "Method Not Allowed" in problem(api.get("/v1/predict"), 405)


def test_too_many_files_and_too_many_bytes_are_refused(api, images):
    many = [("x.png", b"x")] * 33
    assert "Maximum number of files is 32" in problem(api.post("/v1/predict", *many), 400)
    head = {"Content-Length": str(1 << 40), "Content-Type": "multipart/form-data; boundary=x"}
    assert "may have 128 MB" in problem(api.post("/v1/predict", headers=head, data=b""), 413)
    parts = iter([b"--x--"])  # of an unknown length
    assert "Content-Length" in problem(
        api.post("/v1/predict", data=parts, headers={"Content-Type": head["Content-Type"]}), 411
    )


def test_uploads_are_never_written(api, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    large = as_bytes(film(np.full((2000, 2000), 900, "uint16")))
    (result,) = api.post("/v1/predict", ("large.dcm", large)).json()["results"]
    assert result["error"] is None
    assert "nearly one grey value" in result["warnings"]


def test_the_api_describes_itself(api):
    paths = api.get("/openapi.json").json()["paths"]
    assert {"/v1/predict", "/v1/model", "/v1/heatmap", "/healthz", "/metrics"} <= set(paths)
    form = paths["/v1/predict"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert form["schema"]["properties"]["files"]["type"] == "array"
    assert api.get("/healthz").json() == {"status": "ok"}


def test_what_is_counted(api, run, images):
    def count(name):
        lines = api.get("/metrics").text.splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(name)), 0.0)

    name = f'cxr_keras_images_total{{outcome="predicted",run="{run.folder.name}"}}'
    before = count(name)
    api.post("/v1/predict", *images[:3])
    assert count(name) == before + 3
    api.get("/v1/nothing/" + "x" * 40)
    assert "x" * 40 not in api.get("/metrics").text


def test_an_unexpected_error_is_said_without_what_was_sent(api, images, monkeypatch, capfd):
    def broken(*arguments):
        raise ValueError(f"of {SECRET_NAME}")

    monkeypatch.setattr("cxr_keras.serving.web.app.read_radiograph", broken)
    detail = problem(api.post("/v1/predict", images[0]), 500)
    said = detail + "".join(capfd.readouterr())
    assert "ValueError" in said
    assert SECRET_NAME not in said


@pytest.mark.slow
def test_an_onnx_file_is_served_without_maps(run, images, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from cxr_keras.runs.onnx_file import export

    export(run.folder, tmp_path / "net.onnx")
    application = Application(open_runs([tmp_path / "net.onnx"], "float32"), hosts=["127.0.0.1"])
    with serving(application) as client:
        assert not client.get("/v1/model").json()["runs"][0]["heatmaps"]
        answer = client.post("/v1/predict", images[0]).json()["results"][0]
        usual = predict(run.folder, images[:1])[0]
        assert answer["probabilities"] == pytest.approx(usual.probabilities, abs=1e-5)
        detail = problem(client.post("/v1/heatmap?label=Mass", images[0], field="file"), 409)
        assert "serve the .keras file" in detail
        assert "file on its own" in problem(client.get("/v1/results"), 404)


def test_json_has_no_number_that_browsers_do_not_read(api):
    for path in ("/v1/model", "/v1/results"):
        text = api.get(path).text
        json.loads(text, parse_constant=pytest.fail)


def test_opened_files_know_their_limits(run):
    assert "phantoms" in Opened(run.folder).limits[0]
