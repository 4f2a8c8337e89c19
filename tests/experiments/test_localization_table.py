"""experiments/localization.py: its runs can be made, and its table says what was measured."""

from pathlib import Path

import localization
import pandas as pd

from cxr_keras.models.registry import build_model
from cxr_keras.training.config import configured


def test_every_run_can_be_made_and_has_its_layers():
    for network in (*localization.networks(Path("p")), *localization.networks_of_films()):
        config = configured(network.model, "report", network.settings)
        assert bool(config.boxes) == network.boxes
        model = build_model(network.model, "none", outputs=3, size=64, fit="whole")
        last, earlier = (
            model.get_layer(name).output for name in localization.LAYERS[network.model]
        )
        assert earlier.shape[1] > last.shape[1] > 1


def test_the_table_has_a_row_a_map_and_the_interval():
    measures = dict.fromkeys(localization.SHOWN, 0.25)
    row = {"network": "net", "auroc": 0.9, "maps": 7, **measures}
    row |= {"pointing_low": 0.1, "pointing_high": 0.4}
    rows = [row | {"map": "random map", "layer": ""}]
    rows.append(row | {"map": "gradcam", "layer": "last", "untrained_pointing": 0.05})
    text = localization.markdown_of(pd.DataFrame(rows))
    assert "**net**, AUROC 0.900, 7 findings with boxes" in text
    assert "| gradcam | last | 0.250 (0.100–0.400) |" in text
    assert text.rstrip().endswith("| 0.050 |")
