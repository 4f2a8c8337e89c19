r"""Does the guard tell strange images from usual ones? One number for each kind.

python experiments/benchmarks/guard.py RUN [--limbs DIR]

RUN is a network trained on real radiographs, whose test split is what it should know: images of
other patients. Strange are the same images turned by 90° and 180°, mirrored top to bottom and
inverted, phantoms, noise, scikit-learn's two photographs and those of scikit-image in 8 crops each,
and the files of --limbs. Prints and writes guard.csv beside this script: AUROC of the familiarity,
and the share that is called unlike training.
"""

import argparse
import csv
import sys
import tempfile
from pathlib import Path

import numpy as np

WRITTEN = Path(__file__).with_suffix(".csv")
MOST = 400  # test images
SKIMAGE = """
astronaut camera coffee chelsea rocket page text coins moon hubble_deep_field immunohistochemistry
brick grass gravel clock cat retina
""".split()  # noqa: SIM905 (a list of 17 lines says no more)


def photographs(framing) -> np.ndarray:
    """Crops of photographs as the network would be given them, uint8 (n, side, side)."""
    from sklearn.datasets import load_sample_images

    from cxr_keras.data.images import frame_array

    found = [*load_sample_images().images]
    try:
        from skimage import data

        for name in SKIMAGE:
            try:
                found.append(getattr(data, name)())
            except Exception:  # some are fetched from the net
                continue
    except ImportError:
        pass
    rng, crops = np.random.default_rng(0), []
    for image in found:
        pixels = np.asarray(image)
        if pixels.dtype == bool:
            pixels = pixels.astype("uint8") * 255
        grey = pixels if pixels.ndim == 2 else pixels[..., :3] @ [0.299, 0.587, 0.114]
        for _ in range(8):
            share = rng.uniform(0.4, 1)
            high, wide = (int(length * share) for length in grey.shape)
            top, left = (
                rng.integers(0, grey.shape[0] - high + 1),
                rng.integers(0, grey.shape[1] - wide + 1),
            )
            part = np.ascontiguousarray(grey[top : top + high, left : left + wide], "uint8")
            crops.append(frame_array(part, "a photograph", framing))
    return np.stack(crops)


def kinds(run: Path, limbs: Path | None):
    """Name → pixels (n, side, side, 1), the usual ones first."""
    from cxr_keras.data.images import find_image_files, read_image
    from cxr_keras.data.phantom import write_phantoms
    from cxr_keras.evaluation.measured import data_of
    from cxr_keras.runs import model_file

    file = model_file.find_model(run)
    card = model_file.read_card(file)
    test = data_of(file, card, None).split(card.measured_split)
    rows = np.random.default_rng(0).permutation(len(test))[:MOST]
    usual = test.batch(np.sort(rows))
    noise = np.random.default_rng(0).integers(0, 256, (100, *usual.shape[1:]), "uint8")
    found = {
        "other patients": usual,
        "turned by 90°": np.rot90(usual, 1, (1, 2)),
        "turned by 180°": np.rot90(usual, 2, (1, 2)),
        "mirrored top to bottom": usual[:, ::-1],
        "inverted": 255 - usual,
        "photographs": photographs(card.framing)[..., np.newaxis],
        "noise": noise,
    }
    with tempfile.TemporaryDirectory() as folder:
        drawn = find_image_files(write_phantoms(Path(folder) / "phantoms", count=150, seed=5))
        found["phantoms"] = np.stack([read_image(f, card.framing) for f in drawn])[..., np.newaxis]
    if limbs:
        files = find_image_files(limbs)
        found["limbs"] = np.stack([read_image(f, card.framing) for f in files])[..., np.newaxis]
    return file, found


def main() -> None:
    """Measure every kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--limbs", type=Path, help="a folder of DICOM files of other body parts")
    options = parser.parse_args()
    from sklearn.metrics import roc_auc_score

    from cxr_keras import load_model
    from cxr_keras.inference.guard import UNLIKE
    from cxr_keras.inference.guarded import Guarded, read_guard

    file, found = kinds(options.run, options.limbs)
    guarded = Guarded(load_model(file), read_guard(file))
    familiar = {}
    for name, pixels in found.items():
        batches = (np.ascontiguousarray(pixels[n : n + 32]) for n in range(0, len(pixels), 32))
        familiar[name] = np.concatenate([values for _, values in guarded.run(batches)])
    usual, table = next(iter(familiar.values())), []
    for name, values in familiar.items():
        truth = np.repeat([0, 1], [len(usual), len(values)])
        auroc = roc_auc_score(truth, -np.concatenate([usual, values]))
        shown = "" if values is usual else f"{auroc:.3f}"
        table.append([name, len(values), shown, f"{(values < UNLIKE).mean():.3f}"])
        print(*table[-1], sep="\t", flush=True)
    with WRITTEN.open("w", newline="", encoding="utf-8") as target:
        csv.writer(target).writerows([["images", "number", "auroc", "unlike training"], *table])


if __name__ == "__main__":
    sys.exit(main())
