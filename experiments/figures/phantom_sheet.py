"""Draw docs/phantoms.png: one healthy phantom and one for each of the 14 findings, with its boxes.

python experiments/figures/phantom_sheet.py
"""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cxr_keras import FINDINGS
from cxr_keras.data.phantom import Phantom, draw_phantom

TARGET = Path(__file__).resolve().parents[2] / "docs" / "phantoms.png"


def main() -> None:
    """Write the sheet."""
    figure = Figure(figsize=(10, 6.4))
    places = figure.subplots(3, 5).ravel()
    for patient, (axes, finding) in enumerate(zip(places, (None, *FINDINGS), strict=True), 1):
        findings = (finding,) if finding else ()
        phantom, boxes = draw_phantom(Phantom(patient, 0, 50, "F", "PA", False, findings), seed=1)
        axes.imshow(phantom[::2, ::2], cmap="gray", vmin=0, vmax=255, extent=(0, 1024, 1024, 0))
        for _, (x, y, w, h) in boxes:
            axes.add_patch(Rectangle((x, y), w, h, fill=False, color="white", linewidth=0.8))
        axes.set_title((finding or "No Finding").replace("_", " "), fontsize=9)
        axes.axis("off")
    figure.tight_layout(pad=0.6)
    TARGET.parent.mkdir(exist_ok=True)
    figure.savefig(TARGET, dpi=90, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    main()
