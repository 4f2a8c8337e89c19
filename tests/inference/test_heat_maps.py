"""Heat map methods: against each map made alone, and against what a network really looks at."""

import keras
import numpy as np
import pytest
from helpers.refusals import refusal
from PIL import Image

from cxr_keras import build_model, load_model, predict
from cxr_keras.data.boxes import read_boxes
from cxr_keras.inference.cam_methods import gradients_of
from cxr_keras.inference.heat_maps import HeatMaps
from cxr_keras.inference.options import METHODS
from cxr_keras.inference.truth import Truth
from cxr_keras.runs import model_file


@pytest.fixture(scope="module")
def spotter():
    """A network of 64 × 64 pixels whose first output is how bright the brightest spot is."""
    pixels = keras.Input((64, 64, 1), name="pixels")
    x = keras.layers.Rescaling(1 / 255, name="scaled")(pixels)
    kernel = np.zeros((8, 8, 1, 2), "float32")
    kernel[..., 0] = 1 / 64
    kernel[..., 1] = -1 / 64
    conv = keras.layers.Conv2D(2, 8, strides=8, name="conv1")
    x = conv(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    dense = keras.layers.Dense(2, name="logits")
    x = dense(x)
    model = keras.Model(pixels, keras.layers.Activation("sigmoid", name="probabilities")(x))
    conv.set_weights([kernel, np.zeros(2, "float32")])
    dense.set_weights([np.array([[9.0, -9.0], [0.0, 0.0]], "float32"), np.zeros(2, "float32")])
    return model


def spots(*places):
    """Dark images with one bright spot each."""
    images = np.full((len(places), 64, 64), 20, "uint8")
    for image, (row, column) in zip(images, places, strict=True):
        image[row : row + 8, column : column + 8] = 250
    return images


@pytest.mark.parametrize("method", METHODS)
def test_every_method_points_at_what_the_network_sees(spotter, method):
    images = spots((8, 40), (48, 16))
    explainer = HeatMaps(spotter, method)
    for image, (row, column) in zip(images, ((8, 40), (48, 16)), strict=True):
        heat = explainer(image, [0])[0]
        assert heat.shape == (64, 64)
        assert heat.max() > 0.8  # the highest place of a small map, drawn larger
        peak = np.unravel_index(heat.argmax(), heat.shape)
        assert abs(peak[0] - row - 3.5) <= 8, peak
        assert abs(peak[1] - column - 3.5) <= 8, peak


@pytest.mark.parametrize("method", METHODS)
def test_pairs_together_are_pairs_alone(run, phantoms, method):
    from cxr_keras.data.images import read_image

    files = sorted((phantoms / "images").iterdir())[:3]
    pixels = np.stack([read_image(file) for file in files])
    explainer = HeatMaps(load_model(run.folder), method)
    pairs = [(0, 3), (2, 1), (1, 0), (0, 0)]
    together = explainer.cells(pixels, pairs)
    assert (together >= 0).all()
    for (image, label), found in zip(pairs, together, strict=True):
        alone = explainer.cells(pixels[image : image + 1], [(0, label)])[0]
        np.testing.assert_allclose(found, alone, atol=1e-4 * max(alone.max(), 1e-3))


def test_a_gradient_is_the_slope_of_the_logit(spotter):
    head = keras.Model(spotter.input, spotter.get_layer("logits").output)
    images = spots((8, 40), (48, 16)).astype("float32")[..., np.newaxis]
    slopes = gradients_of(head, images, [0, 1])
    step = np.zeros_like(images)
    step[0, 10, 42, 0], step[1, 50, 18, 0] = 1, 1
    before, after = (np.asarray(head.predict_on_batch(x)) for x in (images, images + step))
    for image, (row, column) in enumerate(((10, 42), (50, 18))):
        expected = after[image, image] - before[image, image]
        assert slopes[image, row, column, 0] == pytest.approx(expected, rel=1e-2)


def test_nothing_that_speaks_for_a_finding_is_an_empty_map(spotter):
    heat = HeatMaps(spotter)(spots((8, 8))[0], [1])  # brightness speaks against it
    assert not heat.any()


@pytest.mark.parametrize("method", ["gradcam", "layercam", "hirescam", "integrated-gradients"])
def test_random_weights_make_other_maps(run, phantoms, method):
    """Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018."""
    from cxr_keras.data.images import read_image

    pixels = np.stack([read_image(f) for f in sorted((phantoms / "images").iterdir())[:6]])
    model = load_model(run.folder)
    keras.utils.set_random_seed(1)
    pairs = [(image, label) for image in range(6) for label in (0, 7)]
    maps = [
        HeatMaps(one, method).cells(pixels, pairs).reshape(len(pairs), -1)
        for one in (model, keras.models.clone_model(model))
    ]
    shapes = [found / np.maximum(found.max(axis=1, keepdims=True), 1e-12) for found in maps]
    assert np.abs(shapes[0] - shapes[1]).mean() > 0.02


def test_other_layers_and_what_there_is_none_of(spotter):
    assert HeatMaps(spotter, layer="conv1").cell == 8
    text = refusal(HeatMaps, spotter, layer="nonsense")
    assert "no layer 'nonsense' of maps. Its last ones: " in text
    assert "conv1, relu" in text
    assert "no heat map method 'x'" in refusal(HeatMaps, spotter, "x")


def test_efficientnets_show_the_maps_of_stride_16():
    for name in ("efficientnet_lite0", "efficientnet_lite2"):
        model = build_model(name, outputs=2, size=64, fit="whole")
        assert HeatMaps(model).grid == HeatMaps(model, layer="stage6_0_expand_relu").grid == 4
        assert HeatMaps(model, layer="top_conv_relu").grid == 2
    assert HeatMaps(build_model("resnet18", outputs=2, size=64, fit="whole")).grid == 2


def test_an_empty_map_is_said_and_not_drawn(run, phantoms, tmp_path, monkeypatch):
    monkeypatch.setattr(
        HeatMaps, "__call__", lambda self, pixels, labels: np.zeros((len(labels), 256, 256))
    )
    image = next((phantoms / "images").iterdir())
    row = predict(run.folder, image, heatmaps=tmp_path / "maps")[0]
    assert "nothing in the layer speaks for it" in row.warnings[-1]
    assert not list((tmp_path).glob("maps/*"))


@pytest.mark.parametrize("method", METHODS)
def test_flipped_maps_are_averaged(spotter, method):
    image = spots((8, 40))
    mirrored = np.ascontiguousarray(image[:, :, ::-1])
    plain, flipped = HeatMaps(spotter, method), HeatMaps(spotter, method, tta="flip")
    expected = plain.cells(image, [(0, 0)]) + plain.cells(mirrored, [(0, 0)])[:, :, ::-1]
    np.testing.assert_allclose(flipped.cells(image, [(0, 0)]), expected / 2, atol=1e-6)


@pytest.mark.slow
def test_the_picture_has_the_pixels_of_the_film_and_says_what_counts(run, phantoms, tmp_path):
    """Phantoms have 1024 pixels, the network sees 224 of them."""
    image = next((phantoms / "images").iterdir())
    predict(run.folder, image, heatmaps=tmp_path)
    with Image.open(next(tmp_path.iterdir())) as picture:
        assert picture.width > 1800
    small = tmp_path / "small.png"
    Image.open(image).resize((200, 200)).save(small)
    predict(run.folder, small, heatmaps=tmp_path / "maps")
    with Image.open(next((tmp_path / "maps").iterdir())) as picture:
        assert picture.width < 1300


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_one_sheet_holds_all_images(run, phantoms, tmp_path, suffix, monkeypatch, capsys):
    from cxr_keras.inference import pictures

    monkeypatch.setattr(pictures, "MOST", 7)
    images = sorted((phantoms / "images").iterdir())[:9]
    target = tmp_path / "new" / f"sheet.{suffix}"
    predict(run.folder, images, sheet=target)
    assert target.stat().st_size > 20_000
    assert "2 more images are not on" in capsys.readouterr().err
    if suffix == "png":
        with Image.open(target) as picture:
            assert picture.width > picture.height  # two rows of five


def test_the_truth_of_a_data_set_stands_beside_the_map(run, phantoms, tmp_path):
    box = read_boxes(phantoms).iloc[0]
    image, stranger = phantoms / "images" / box["Image Index"], tmp_path / "copy.png"
    stranger.write_bytes(image.read_bytes())
    truth = Truth(phantoms, model_file.read_card(run.folder))
    known = truth.of(image)
    assert box["label"] in known.findings
    ends = np.array([box["x"], box["y"], box["x"] + box["w"], box["y"] + box["h"]], dtype=float)
    placed = np.clip(ends / 4, 16, 240)  # 1024 pixels become 256, of which 224 are seen
    np.testing.assert_allclose(known.boxes[box["label"]][0], placed)
    assert truth.of(stranger) is None
    for name, data in (("with", phantoms), ("without", None)):
        predict(run.folder, [image, stranger], sheet=tmp_path / f"{name}.png", truth=data)
    assert (tmp_path / "with.png").read_bytes() != (tmp_path / "without.png").read_bytes()


def test_truth_without_pictures_is_refused(run, phantoms):
    assert "--heatmaps or --sheet" in refusal(predict, run.folder, phantoms, truth=phantoms)
