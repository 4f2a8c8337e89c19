"""What lies in a run folder."""

import numpy as np
import pandas as pd

from cxr_keras.data.images import read_image
from cxr_keras.data.labels import LABELS

COLUMNS = [f"prob_{label}" for label in LABELS]


def probabilities(folder, name="predictions.csv"):
    return pd.read_csv(folder / name)[COLUMNS].to_numpy()


def pixels_of(folder, data):
    names = pd.read_csv(folder / "predictions.csv")["Image Index"]
    return np.stack([read_image(data / "images" / name) for name in names])[..., None]


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
