"""The report's whole grid: runs, tables, figures and one page, from a data folder.

python experiments/reproduce.py [--data DATA] [--out reports/] [--quick] [--only alexnet,C7]

Runs that are done are skipped, an interrupted one resumes, a failed one is reported at the end
and does not stop the others. `--quick` is the same path in minutes: few phantoms, few epochs, no
pretrained weights. `--tables-only` makes tables, figures and page again from the run folders,
without training and without images.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from report.grid import PLANS, Plan, choose, shortened, with_weights
from report.results import DATA, Report, read_report
from runner import exit_code, run_grid, script_parser, write_json

from cxr_keras.utils.console import notice, print_notices
from cxr_keras.utils.files import write_text

RUNS, QUICK_RUNS = "runs", "runs-quick"
TABLES, FIGURES, PAGE = "tables", "figures", "index.html"


def main(arguments: list[str] | None = None) -> int:
    """Run the grid and write the report; 1 if a run failed."""
    options = _parser().parse_args(arguments)
    print_notices()
    return exit_code(lambda: make_report(options))


def make_report(options: argparse.Namespace) -> dict[str, str]:
    """Run what is asked for and write the report; run → why, for those that failed."""
    if options.device:
        from cxr_keras.models.device import use_device

        use_device(options.device)
    runs = QUICK_RUNS if options.quick else RUNS
    named = {plan.table for plan in choose(options.only)}
    plans = tuple(_settled(plan, options, plan.table in named) for plan in PLANS)
    failed = {}
    if not options.tables_only:
        data = count_images(options.data, options.out / runs, quick=options.quick)
        wanted = [plan for plan in plans if plan.table in named]
        keep = not (options.quick or options.drop_models)
        failed = run_grid(wanted, data, options.out / runs, keep_models=keep, ray=options.ray)
    write_report(read_report(options.out, runs, plans))
    print(options.out / PAGE)
    return failed


def count_images(data: Path | None, folder: Path, *, quick: bool) -> Path:
    """Find the data folder, count its labels for Figures 2 and 3, and note what it is."""
    from cxr_keras import explore
    from cxr_keras.data.phantom import default_phantoms
    from cxr_keras.data.readers.nih import find_table
    from cxr_keras.data.source import resolve_data

    root = default_phantoms() if quick and data is None else resolve_data(data)
    root = root.resolve()
    found = explore(root, out=(folder / DATA).parent)
    table = find_table(root)
    content = {"label_table": table.name if table else "", "images": found.images}
    write_json(folder / DATA, content | {"phantoms": found.phantoms})
    return root


def write_report(report: Report) -> None:
    """Write every table, figure and the page into the report's folder."""
    from report.examples import examples
    from report.figures import pictures, save
    from report.overview import all_tables
    from report.page import page
    from report.text import to_csv, to_markdown

    tables, figures = report.folder / TABLES, report.folder / FIGURES
    for folder in (tables, figures):
        folder.mkdir(parents=True, exist_ok=True)
    sections = all_tables(report)
    for name, group in sections.items():
        write_text(tables / f"{name}.md", to_markdown(group))
        for table in group:
            write_text(tables / f"{table.name}.csv", to_csv(table))
    notice("Drawing the figures.")
    drawn = [*pictures(report), examples(report)]
    for picture in drawn:
        save(picture, figures)
    write_text(report.folder / PAGE, page(report, list(sections.values()), drawn, figures))


def _settled(plan: Plan, options: argparse.Namespace, named: bool) -> Plan:
    plan = shortened(plan) if options.quick else plan
    if options.per_class:
        plan = replace(plan, per_class=options.per_class)
    needs_weights = options.weights and named and not options.tables_only
    return with_weights(plan, options.weights) if needs_weights else plan


def _parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__)
    add = parser.add_argument
    add("--data", type=Path, help="a folder in NIH's layout; by default as `cxr-keras train`")
    add("--out", type=Path, default=Path("reports"), help="where everything goes")
    add("--quick", action="store_true", help="few phantoms, few epochs, random weights")
    add("--only", metavar="NAMES", help="networks or tables, between commas")
    add("--weights", type=Path, metavar="DIR", help="torchvision's .pth files; default: fetched")
    add("--per-class", type=int, help="images chosen a label (300; 20 or 4 with --quick)")
    add("--drop-models", action="store_true", help="delete each model.keras (3 GB in all)")
    add("--device", metavar="cpu|cuda|mps", help="where to compute; default: a GPU if there is one")
    add(
        "--ray",
        metavar="ADDRESS",
        nargs="?",
        const="",
        help="train on the Ray cluster at ADDRESS, many runs at once, or on one of this machine",
    )
    add("--tables-only", action="store_true", help="from the run folders; no training, no images")
    return parser


if __name__ == "__main__":
    sys.exit(main())
