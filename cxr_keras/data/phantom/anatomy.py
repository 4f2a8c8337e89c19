"""The healthy chest of a phantom: where its organs lie and what they attenuate.

Everything is drawn on a `GRID`×`GRID` canvas in which x and y run from 0 to 1 (image left to
right, top to bottom; the patient's right side is image left, as an image hangs). An image is a sum
of attenuations, bright where X-rays are stopped, as in a radiograph.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

GRID = 512
SIZE = 1024
_AXIS = (np.arange(GRID, dtype="float32") + 0.5) / GRID
X, Y = _AXIS[np.newaxis, :], _AXIS[:, np.newaxis]  # a row and a column: numpy spreads them

Mask = np.ndarray  # float32 (GRID, GRID), 0 outside … 1 inside


def soft(distance: np.ndarray, width: float) -> Mask:
    """1 where `distance` ≫ 0, 0 where ≪ 0, a smooth edge about `width` wide between.

    Of the shape of `distance`: a row or a column for what depends on x or y alone.
    """
    mask = distance / width
    np.tanh(mask, out=mask)  # in place: each is a megabyte or two, and a phantom has dozens
    mask *= 0.5
    mask += 0.5
    return mask


def blank() -> np.ndarray:
    """Nothing yet: zeros, float32 (GRID, GRID)."""
    return np.zeros((GRID, GRID), "float32")


def ellipse(x: float, y: float, rx: float, ry: float, width: float, angle: float = 0.0) -> Mask:
    """A soft-edged ellipse with centre (x, y) and radii (rx, ry), turned by `angle` radians."""
    dx, dy = (X - x).astype("float64"), (Y - y).astype("float64")  # as VERSION 1 was drawn
    if angle:
        cos, sin = np.cos(angle), np.sin(angle)
        dx, dy = dx * cos + dy * sin, dy * cos - dx * sin
    u, v = dx / rx, dy / ry
    return soft((1.0 - np.sqrt(u * u + v * v)) * min(rx, ry), width)


def texture(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise of unit variance with about `cells` blobs across the image."""
    small = rng.standard_normal((cells, cells)).astype("float32")
    image = Image.fromarray(small).resize((GRID, GRID), Image.Resampling.BICUBIC)
    values = np.asarray(image)
    return (values - values.mean()) / (values.std() + 1e-6)


@dataclass
class Lung:
    """One lung: centre, radii, the height of its diaphragm dome, and `side` (-1 image left)."""

    side: int
    x: float
    y: float
    rx: float
    ry: float
    dome_y: float
    dome_bend: float = 0.9

    def floor(self) -> np.ndarray:
        """Height of the diaphragm above each column of pixels, shape (1, GRID)."""
        bow = (X - (self.x - self.side * 0.02)) / self.rx
        return self.dome_y + self.dome_bend * 0.055 * bow * bow

    def radius(self) -> np.ndarray:
        """Superellipse radius: 0 at the lung's centre, 1 on its outline."""
        u, v = np.abs((X - self.x) / self.rx), np.abs((Y - self.y) / self.ry)
        return (u**2.4 + v**2.4) ** (1 / 2.4)

    def mask(self) -> Mask:
        """The aerated lung: inside its outline and above its diaphragm."""
        return soft((1.0 - self.radius()) * self.rx, 0.006) * soft(self.floor() - Y, 0.005)


@dataclass
class Chest:
    """A patient's chest on one image, and what its findings have done to it.

    `extra` is attenuation that signs add (or take away), `markings` scales the vessels
    (0 hides them), `boxes` are the signs' outlines.
    """

    rng: np.random.Generator
    right: Lung
    left: Lung
    heart_width: float
    heart_height: float
    centre: float
    soft_tissue: float
    rib_phase: float
    rib_contrast: float
    aeration: float = 0.34
    extra: np.ndarray = field(default_factory=blank)
    markings: np.ndarray = field(default_factory=lambda: np.ones((GRID, GRID), "float32"))
    boxes: list[tuple[str, Mask]] = field(default_factory=list)

    @property
    def lungs(self) -> tuple[Lung, Lung]:
        """The lung on image left, then the one on image right."""
        return self.right, self.left

    def lung_mask(self) -> Mask:
        """Both lungs."""
        return np.maximum(self.right.mask(), self.left.mask())

    def heart_mask(self) -> Mask:
        """The cardiac silhouette, leaning to the patient's left."""
        floor = min(self.right.dome_y, self.left.dome_y)
        body = ellipse(
            self.centre + 0.30 * self.heart_width,
            floor - 0.80 * self.heart_height,
            self.heart_width,
            self.heart_height,
            0.010,
            angle=0.45,
        )
        return body * soft(floor + 0.06 - Y, 0.01)


def patient_chest(patient: np.random.Generator, image: np.random.Generator) -> Chest:
    """A healthy chest: build from the patient's generator, posture from the image's."""
    breath = image.normal(0.0, 0.010)
    centre = 0.5 + patient.normal(0.0, 0.008) + image.normal(0.0, 0.008)
    width, height = patient.normal(0.150, 0.006), patient.normal(0.385, 0.012)
    right_dome = 0.745 + patient.normal(0.0, 0.012) + breath
    right = Lung(-1, centre - 0.195, 0.47, width, height, right_dome)
    left = Lung(+1, centre + 0.200, 0.47, width * 0.97, height, right_dome + 0.022)
    return Chest(
        rng=image,
        right=right,
        left=left,
        heart_width=patient.normal(0.112, 0.004),
        heart_height=patient.normal(0.150, 0.005),
        centre=centre,
        soft_tissue=patient.normal(0.55, 0.02),
        rib_phase=patient.uniform(0.0, 1.0),
        rib_contrast=patient.uniform(0.035, 0.065),
    )


def ribs(chest: Chest) -> np.ndarray:
    """Posterior ribs slope down to the side, anterior ribs the other way and fainter."""
    away = np.abs(X - chest.centre)
    cage = soft(0.43 - away, 0.01) * soft(away - 0.035, 0.01) * soft(0.86 - Y, 0.03)
    posterior = np.cos(
        2 * np.pi * ((Y - 0.9 * away * away - 0.18 * away) / 0.082 + chest.rib_phase)
    )
    anterior = np.cos(2 * np.pi * ((Y - 0.55 * away) / 0.105 + 2 * chest.rib_phase))
    bands = soft(posterior - 0.35, 0.30) + 0.45 * soft(anterior - 0.55, 0.30)
    return chest.rib_contrast * cage * bands


def vessels(chest: Chest) -> np.ndarray:
    """Branching markings that fan out from each hilum and thin towards the pleura."""
    field_ = blank()
    for lung in chest.lungs:
        hilum_x, hilum_y = chest.centre + lung.side * 0.075, 0.46
        radius = np.hypot(X - hilum_x, Y - hilum_y) + 1e-4
        angle = np.arctan2(Y - hilum_y, X - hilum_x)
        wobble = 0.25 * texture(chest.rng, 14)
        spokes = np.cos(13 * angle + 5 * np.sqrt(radius) + wobble + chest.rng.uniform(0, 6.3))
        fan = soft(spokes - 0.55, 0.25) * np.exp(-radius / 0.11)
        hilum = 0.8 * np.exp(-((radius / 0.045) ** 2))
        field_ = np.maximum(field_, (fan + hilum) * soft(lung.side * (X - chest.centre), 0.01))
    return 0.13 * field_


def clavicles_and_spine(chest: Chest) -> np.ndarray:
    """Clavicles, spine and trachea of the midline."""
    away = np.abs(X - chest.centre)
    clavicle = soft(0.010 - np.abs(Y - (0.17 - 0.16 * away)), 0.004)
    clavicle *= soft(away - 0.04, 0.01) * soft(0.33 - away, 0.01)
    discs = 0.5 + 0.5 * np.cos(2 * np.pi * Y / 0.055)
    spine = soft(0.030 - away, 0.008) * (0.6 + 0.4 * discs)
    trachea = soft(0.014 - away, 0.004) * soft(0.36 - Y, 0.01)
    return 0.10 * clavicle + 0.07 * spine - 0.08 * trachea


def mediastinum(chest: Chest) -> np.ndarray:
    """Great vessels, aortic knob and the heart."""
    flare = 0.055 + 0.025 * soft(Y - 0.45, 0.08) + 0.03 * soft(0.16 - Y, 0.04)
    column = soft(flare - np.abs(X - chest.centre), 0.010) * soft(0.85 - Y, 0.02)
    knob = ellipse(chest.centre + 0.060, 0.335, 0.035, 0.040, 0.008)
    return 0.26 * np.maximum(np.maximum(column, knob), chest.heart_mask())


def render(chest: Chest) -> np.ndarray:
    """The image: uint8 (1024, 1024), bright where the chest attenuates."""
    rng = chest.rng
    lungs = chest.lung_mask()
    torso = soft(0.47 + 0.04 * soft(Y - 0.3, 0.1) - np.abs(X - chest.centre), 0.012)
    shoulders = soft(Y - 0.02 - 1.6 * np.maximum(np.abs(X - chest.centre) - 0.14, 0) ** 1.3, 0.02)
    body = torso * shoulders
    stomach = ellipse(chest.centre + 0.19, chest.left.dome_y + 0.085, 0.055, 0.032, 0.010)
    image = chest.soft_tissue * body * (1.0 + 0.05 * (Y - 0.5)) - chest.aeration * lungs * body
    image += ribs(chest) * body + clavicles_and_spine(chest) * body - 0.14 * stomach
    image = np.maximum(image, 0.0) + (1.0 - 0.35 * image) * mediastinum(chest)
    image += vessels(chest) * chest.markings * lungs + 0.018 * texture(rng, 24) * body
    image = np.clip(image + chest.extra * body, 0.0, 1.15)
    exposure, gamma = rng.normal(1.0, 0.06), rng.normal(1.0, 0.07)
    image = 0.03 + 0.92 * exposure * np.power(image, gamma)
    whole = np.asarray(
        Image.fromarray(image.astype("float32")).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    )
    pixels = rng.standard_normal((SIZE, SIZE), dtype="float32")
    pixels *= rng.uniform(0.010, 0.025)  # grain
    pixels += whole
    np.clip(pixels, 0.0, 1.0, out=pixels)
    return (pixels * 255.0 + 0.5).astype("uint8")
