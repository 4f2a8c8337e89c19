"""Where do heat maps point? Methods × networks, on phantoms and on real films with boxes.

python experiments/localization.py [--films ../shared/nih-128 --boxes ../shared/nih-sample]

Trains networks on phantoms, whose signs have exact boxes, one of them also with --boxes; with
--films the same networks on real radiographs, whose maps are held against the boxes of the data
named by --boxes. Then measures every method, and for the methods of maps an earlier layer, too.
Runs and measurements that are done are skipped. Writes methods.csv and methods.md into
`heat_maps/`. About an hour on 2 cores without --films.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from runner import exit_code, run_grid, script_parser

from cxr_keras import localize
from cxr_keras.data.boxes import BOX_NAME
from cxr_keras.data.phantom import write_phantoms
from cxr_keras.evaluation.localization import CENTRE, RANDOM, UNTRAINED
from cxr_keras.evaluation.localization import MAPS as TABLE_OF_MAPS
from cxr_keras.inference.options import METHODS
from cxr_keras.metrics.localization import AVERAGE, summary
from cxr_keras.utils.console import notice, print_notices
from cxr_keras.utils.files import write_table, write_text

HERE = Path(__file__).parent / "heat_maps"
COUNT, SEED = 600, 11  # of phantoms
LAYERED = ("gradcam", "layercam", "hirescam")  # also measured at an earlier layer
LAYERS = {  # network → the last layer of maps, and an earlier one with finer maps
    "alexnet_custom": ("conv5_relu", "conv2_relu"),
    "resnet_custom": ("layer2_relu", "layer1_relu"),
    "efficientnet_lite0": ("top_conv_relu", "stage6_0_expand_relu"),
}
SHOWN = ("pointing", "energy", "iou_0.1", "iobb_0.25", "mean_iou")
_COMMON: dict[str, Any] = {"size": 160, "fit": "whole", "per_class": "all"}
_PRETRAINED = _COMMON | {"recipe": "modern", "mixup": 0.0, "epochs": 12}
_RANDOM = _COMMON | {"recipe": "modern", "mixup": 0.0, "epochs": 30, "lr": 2e-3}


@dataclass(frozen=True)
class Network:
    """One training, and the layers whose maps are measured.

    Attributes:
        name: of the run folder.
        model: the network.
        settings: of `cxr_keras.train`.
        boxes: whether it is trained with the boxes of its training images.
    """

    name: str
    model: str
    settings: dict[str, Any] = field(hash=False)
    boxes: bool = False

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.name} ({self.model})"

    @property
    def cost(self) -> float:
        """Seconds on 2 cores, roughly."""
        return 300.0


def networks(phantoms: Path) -> list[Network]:
    """Those that are trained on phantoms."""
    boxes = {"boxes": str(phantoms / BOX_NAME)}
    alexnet = _COMMON | {"recipe": "report", "epochs": 20, "lr": 5e-4}
    return [
        Network("alexnet_custom", "alexnet_custom", alexnet),
        Network("resnet_custom", "resnet_custom", _RANDOM),
        Network("resnet_custom-boxes", "resnet_custom", _RANDOM | boxes, boxes=True),
        Network("efficientnet_lite0", "efficientnet_lite0", _PRETRAINED),
        Network("efficientnet_lite0-boxes", "efficientnet_lite0", _PRETRAINED | boxes, boxes=True),
    ]


def networks_of_films() -> list[Network]:
    """Those that are trained on real films: the pretrained one as usual, two others shortly."""
    short = _COMMON | {"size": 128, "recipe": "modern", "mixup": 0.0, "epochs": 6}
    return [
        Network("films-efficientnet_lite0", "efficientnet_lite0", {}),
        Network("films-resnet_custom", "resnet_custom", short),
        Network("films-alexnet_custom", "alexnet_custom", short | {"epochs": 3}),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Train and measure what is not done, and write the table; 1 if a run failed."""
    options = _parser().parse_args(arguments)
    print_notices()
    return exit_code(lambda: measure(options))


def measure(options: argparse.Namespace) -> dict[str, str]:
    """Do the work; run → why, for those that failed."""
    phantoms = options.runs / "phantoms"
    if not phantoms.exists():
        write_phantoms(phantoms, count=COUNT, seed=SEED)
    wanted = [name for name in (options.only or "").split(",") if name]
    failed: dict[str, str] = {}
    done: list[tuple[Network, Path | None]] = []
    groups = [(networks(phantoms.resolve()), phantoms, None)]
    if options.films:
        groups.append((networks_of_films(), options.films, options.boxes))
    for group, data, boxes in groups:
        chosen = [one for one in group if not wanted or one.name in wanted]
        failed |= run_grid(chosen, data.expanduser().resolve(), options.runs)
        done += [(one, boxes) for one in chosen if one.name not in failed]
    rows = []
    for network, boxes in done:
        rows += _measured(network, options.runs / network.name, boxes)
    table = pd.DataFrame(rows)
    options.out.mkdir(parents=True, exist_ok=True)
    write_table(table, options.out / "methods.csv")
    write_text(options.out / "methods.md", markdown_of(table))
    print(markdown_of(table), end="")
    return failed


def _measured(network: Network, run: Path, boxes: Path | None) -> list[dict[str, Any]]:
    """A row for each method and layer, and for the two maps that know nothing."""
    auroc = _auroc(run)
    last, earlier = LAYERS[network.model]
    asked = [(method, last) for method in METHODS] + [(method, earlier) for method in LAYERED]
    rows: list[dict[str, Any]] = []
    for method, layer in asked:
        folder = run / f"localize-{method}-{layer}"
        if not (folder / TABLE_OF_MAPS).is_file():
            notice(f"{network.name}: {method} {layer}")
            localize(run, boxes, method=method, layer=layer, out=folder)
        table = summary(pd.read_csv(folder / TABLE_OF_MAPS), resamples=1000)
        means = table[table["label"] == AVERAGE].set_index("map")
        about = {"network": network.name, "auroc": auroc}
        if not rows:
            for kind in (RANDOM, CENTRE):
                rows.append(about | {"map": kind, "layer": ""} | means.loc[kind].to_dict())
        found = means.loc[method].to_dict() | {
            "untrained_pointing": means.loc[UNTRAINED, "pointing"],
        }
        rows.append(about | {"map": method, "layer": layer} | found)
    return rows


def _auroc(run: Path) -> float:
    """Of the findings on the test split."""
    table = pd.read_csv(run / "metrics.csv").set_index("label")
    return float(table.loc[next(name for name in table.index if "average" in name), "auroc"])


def markdown_of(table: pd.DataFrame) -> str:
    """The table for docs, a part a network."""
    parts = []
    for name, rows in table.groupby("network", sort=False):
        head = rows.iloc[0]
        lines = [
            f"**{name}**, AUROC {head['auroc']:.3f}, {head['maps']:.0f} findings with boxes",
            "",
            "| map | layer | pointing (95%) | energy | IoU>0.1 | IoBB>0.25 | mean IoU | "
            "random weights: pointing |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for row in rows.to_dict("records"):
            interval = f"({row['pointing_low']:.3f}–{row['pointing_high']:.3f})"
            cells = [f"{row['pointing']:.3f} {interval}"]
            cells += [f"{row[measure]:.3f}" for measure in SHOWN[1:]]
            untrained = row.get("untrained_pointing")
            cells.append("" if untrained is None or pd.isna(untrained) else f"{untrained:.3f}")
            lines.append(f"| {row['map']} | {row['layer']} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__)
    add = parser.add_argument
    add("--runs", type=Path, default=Path("heat_maps"), help="where run folders and phantoms go")
    add("--out", type=Path, default=HERE, help="where the tables go")
    add("--films", type=Path, help="real radiographs in NIH's layout to train on, too")
    add("--boxes", type=Path, help="data with boxes that the maps of those are held against")
    add("--only", metavar="NAMES", help="networks, between commas")
    return parser


if __name__ == "__main__":
    sys.exit(main())
