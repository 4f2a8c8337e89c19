"""The 14 findings of a phantom, each drawn as its own radiographic sign.

A sign takes the `Chest` and changes it: the shape of an organ, the attenuation, the vessel
markings. It returns the soft mask of what a reader would outline, from which the box follows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cxr_keras.data.phantom.anatomy import Chest, Lung, Mask, X, Y, blank, ellipse, soft, texture

Sign = Callable[[Chest], Mask]


def _either(chest: Chest) -> Lung:
    return chest.lungs[int(chest.rng.integers(2))]


def _patch(chest: Chest, lung: Lung, x: float, y: float, rx: float, ry: float) -> Mask:
    """An ill-defined region inside a lung, its outline broken up by noise."""
    region = ellipse(x, y, rx, ry, 0.018) * (0.9 + 0.15 * texture(chest.rng, 40))
    return np.clip(region, 0.0, 1.0) * lung.mask()


def emphysema(chest: Chest) -> Mask:
    """Hyperinflation: dark long lungs, flat low diaphragms, a narrow heart, sparse vessels."""
    for lung in chest.lungs:
        lung.dome_y += 0.075
        lung.dome_bend = 0.05
        lung.y += 0.020
        lung.ry += 0.030
        lung.rx += 0.008
    chest.heart_width *= 0.76
    chest.aeration += 0.12
    chest.markings *= 0.35
    return chest.lung_mask()


def cardiomegaly(chest: Chest) -> Mask:
    """An enlarged heart: more than half of the chest's inner width."""
    chest.heart_width *= chest.rng.uniform(1.45, 1.70)
    chest.heart_height *= 1.12
    return chest.heart_mask()


def atelectasis(chest: Chest) -> Mask:
    """Volume loss: one diaphragm pulled up, plate-like bands above it."""
    lung = _either(chest)
    lung.dome_y -= chest.rng.uniform(0.085, 0.115)
    slope = chest.rng.uniform(-0.25, 0.25)
    bands = blank()
    for offset in (0.035, 0.070, 0.105):
        line = lung.dome_y - offset + slope * (X - lung.x)
        bands = np.maximum(bands, soft(0.0075 - np.abs(Y - line), 0.004))
    zone = lung.mask() * soft(0.9 * lung.rx - np.abs(X - lung.x), 0.02)
    chest.extra += 0.26 * bands * zone
    above = lung.dome_y + slope * (X - lung.x) - Y
    return zone * soft(above - 0.025, 0.004) * soft(0.115 - above, 0.004)


def consolidation(chest: Chest) -> Mask:
    """A dense upper or middle zone with a sharp lower border and air bronchograms."""
    lung = _either(chest)
    top = chest.rng.uniform(0.22, 0.34)
    zone = soft(Y - top, 0.025) * soft(top + 0.19 - Y, 0.006) * lung.mask()
    angle = np.arctan2(Y - 0.46, (X - chest.centre) * lung.side)
    bronchi = soft(np.cos(16 * angle) - 0.80, 0.10)
    chest.extra += zone * (0.34 - 0.16 * bronchi)
    chest.markings *= 1.0 - zone
    return zone


def pneumonia(chest: Chest) -> Mask:
    """A wedge-shaped, patchy opacity of one lower zone, broad at the pleura."""
    lung = _either(chest)
    apex_x, apex_y = chest.centre + lung.side * 0.10, 0.50
    dx, dy = (X - apex_x) * lung.side, Y - apex_y
    angle = np.arctan2(dy, dx)
    wedge = soft(0.42 - np.abs(angle - 0.70), 0.08) * soft(np.hypot(dx, dy) - 0.03, 0.02)
    clumps = np.clip(0.75 + 0.45 * texture(chest.rng, 52), 0.0, 1.4)
    wedge = wedge * lung.mask()
    chest.extra += 0.27 * wedge * clumps
    return wedge


def infiltration(chest: Chest) -> Mask:
    """Faint, fluffy, scattered shadows over the middle and upper zones of both lungs."""
    region = blank()
    for lung in chest.lungs:
        for _ in range(6):
            x = lung.x + chest.rng.uniform(-0.6, 0.6) * lung.rx
            y = chest.rng.uniform(0.22, 0.58)
            region = np.maximum(region, _patch(chest, lung, x, y, 0.032, 0.028))
    chest.extra += 0.24 * region
    return region


def edema(chest: Chest) -> Mask:
    """Bat-wing haze around both hila and short horizontal septal (Kerley B) lines."""
    wings = blank()
    lines = blank()
    for lung in chest.lungs:
        wing = ellipse(chest.centre + lung.side * 0.12, 0.47, 0.11, 0.15, 0.045)
        wings = np.maximum(wings, wing * lung.mask())
        edge = soft(lung.radius() - 0.72, 0.02) * soft(Y - 0.55, 0.02) * lung.mask()
        lines = np.maximum(lines, edge * soft(np.cos(2 * np.pi * Y / 0.022) - 0.5, 0.2))
    chest.extra += wings * (0.24 + 0.03 * texture(chest.rng, 44)) + 0.10 * lines
    return wings


def effusion(chest: Chest) -> Mask:
    """Fluid: a meniscus that climbs the lateral wall and drowns the costophrenic angle."""
    lung = _either(chest)
    depth = chest.rng.uniform(0.10, 0.17)
    lateral = np.clip((X - lung.x) * lung.side / lung.rx, -1.0, 1.0)
    surface = lung.dome_y - depth - 0.10 * np.clip(lateral, 0.0, 1.0) ** 3
    fluid = soft(Y - surface, 0.008) * lung.mask()
    chest.extra += 0.40 * fluid
    chest.markings *= 1.0 - fluid
    return fluid


def fibrosis(chest: Chest) -> Mask:
    """A reticular net of fine lines, peripheral and basal, in both lungs."""
    net = blank()
    region = blank()
    for wave in range(3):
        angle = wave * np.pi / 3 + chest.rng.uniform(-0.2, 0.2)
        phase = (X * np.cos(angle) + Y * np.sin(angle)) / 0.030 + 0.22 * texture(chest.rng, 16)
        net = np.maximum(net, soft(np.cos(2 * np.pi * phase) - 0.72, 0.12))
    for lung in chest.lungs:
        rim = soft(lung.radius() - 0.45, 0.12) * soft(Y - 0.48, 0.05) * lung.mask()
        region = np.maximum(region, rim)
    chest.extra += 0.26 * net * region
    return region


def hernia(chest: Chest) -> Mask:
    """Hiatal hernia: a round pouch behind the heart with an air-fluid level."""
    x = chest.centre + chest.rng.uniform(-0.01, 0.03)
    y, radius = chest.right.dome_y - 0.055, chest.rng.uniform(0.070, 0.085)
    pouch = ellipse(x, y, radius, radius, 0.004)
    air = ellipse(x, y, radius * 0.86, radius * 0.86, 0.004) * soft(y - Y, 0.003)
    chest.extra += 0.12 * pouch - 0.42 * air
    return pouch


def mass(chest: Chest) -> Mask:
    """One dense round opacity, well over 3 cm across."""
    lung = _either(chest)
    x = lung.x + chest.rng.uniform(-0.35, 0.45) * lung.rx * lung.side
    y, radius = chest.rng.uniform(0.24, 0.60), chest.rng.uniform(0.055, 0.072)
    bulge = ellipse(x, y, radius, radius * chest.rng.uniform(0.85, 1.1), 0.005)
    chest.extra += 0.36 * bulge
    return bulge


def nodule(chest: Chest) -> Mask:
    """Several small round opacities, each under 3 cm."""
    spots = blank()
    for lung in chest.lungs:
        for _ in range(int(chest.rng.integers(3, 6))):
            x = lung.x + chest.rng.uniform(-0.75, 0.75) * lung.rx
            y = chest.rng.uniform(0.20, lung.dome_y - 0.05)
            radius = chest.rng.uniform(0.013, 0.018)
            spots = np.maximum(spots, ellipse(x, y, radius, radius, 0.003))
    spots = spots * chest.lung_mask()
    chest.extra += 0.36 * spots
    return spots


def pleural_thickening(chest: Chest) -> Mask:
    """A bright rind along the lateral chest wall, with an apical cap, on one side."""
    lung = _either(chest)
    rind = soft(lung.radius() - 0.84, 0.015) * lung.mask()
    rind = rind * soft(lung.side * (X - lung.x), 0.02)
    chest.extra += 0.36 * rind
    chest.markings *= 1.0 - rind
    return rind


def pneumothorax(chest: Chest) -> Mask:
    """Air outside the lung: a dark apical and lateral crescent with no markings, a fine line."""
    lung = _either(chest)
    inner_x = lung.x - lung.side * chest.rng.uniform(0.045, 0.060)
    inner_y = lung.y + chest.rng.uniform(0.11, 0.15)
    u, v = np.abs((X - inner_x) / (lung.rx * 0.93)), np.abs((Y - inner_y) / (lung.ry * 0.95))
    inside = (1.0 - (u**2.4 + v**2.4) ** (1 / 2.4)) * lung.rx
    crescent = (1.0 - soft(inside, 0.004)) * lung.mask()
    line = soft(0.0035 - np.abs(inside), 0.002) * lung.mask()
    chest.extra += 0.20 * line - 0.22 * crescent + 0.06 * soft(inside, 0.01) * lung.mask()
    chest.markings *= 1.0 - crescent
    return crescent


# In the order in which they are drawn: signs that reshape organs before those that lie in them.
SIGNS: dict[str, Sign] = {
    "Emphysema": emphysema,
    "Atelectasis": atelectasis,
    "Cardiomegaly": cardiomegaly,
    "Edema": edema,
    "Fibrosis": fibrosis,
    "Infiltration": infiltration,
    "Consolidation": consolidation,
    "Pneumonia": pneumonia,
    "Mass": mass,
    "Nodule": nodule,
    "Hernia": hernia,
    "Pleural_Thickening": pleural_thickening,
    "Effusion": effusion,
    "Pneumothorax": pneumothorax,
}


def add_findings(chest: Chest, findings: list[str]) -> None:
    """Draw `findings` into `chest`, recording each one's mask in `chest.boxes`."""
    for name, sign in SIGNS.items():
        if name in findings:
            chest.boxes.append((name, sign(chest)))
