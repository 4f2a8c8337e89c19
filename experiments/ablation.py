"""What each piece of the modern recipe gives, measured on real radiographs.

python experiments/ablation.py --data ../shared/nih-128 [--runs ablation] [--only removed,tried]

Trains EfficientNet-Lite0 by the report's recipe, then with each piece of the modern recipe added
to those before it, then by the whole recipe without each piece, and with some more. One seed, one
split by patient, 128 px, few epochs: a sweep, three and a half hours on 2 cores. Runs that are done
are skipped, an interrupted one resumes; a run made earlier, elsewhere, keeps its row in the table.
Writes ablation.csv, .md and .png beside `recipes/`'s code.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from recipes.pieces import Step, steps
from recipes.summary import markdown_of, table_of, write
from runner import exit_code, run_grid, script_parser

from cxr_keras import CxrError
from cxr_keras.utils.console import print_notices

HERE = Path(__file__).parent / "recipes"


def main(arguments: list[str] | None = None) -> int:
    """Run what is not done and write the table; 1 if a run failed."""
    options = _parser().parse_args(arguments)
    print_notices()
    return exit_code(lambda: measure(options))


def measure(options: argparse.Namespace) -> dict[str, str]:
    """Run what is asked for, and write the table; run → why, for those that failed."""
    every = steps()
    chosen = chosen_of(every, options.only)
    failed = {}
    if not options.table_only:
        data = options.data.expanduser().resolve()
        failed = run_grid(chosen, data, options.runs, keep_models=False)
    table = table_of(every, options.runs, options.out)
    options.out.mkdir(parents=True, exist_ok=True)
    write(table, options.out)
    print(markdown_of(table), end="")
    return failed


def chosen_of(every: list[Step], only: str | None) -> list[Step]:
    """The steps whose run folders' names begin with one of the names between commas.

    Raises:
        CxrError: a name begins none.
    """
    if not only:
        return every
    names = [name.strip() for name in only.split(",") if name.strip()]
    for name in names:
        if not any(step.name.startswith(name) for step in every):
            known = ", ".join(step.name for step in every)
            raise CxrError(f"There is no run {name!r}. Choose from: {known}.")
    return [step for step in every if any(step.name.startswith(name) for name in names)]


def _parser() -> argparse.ArgumentParser:
    parser = script_parser(__doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="a folder in NIH's layout")
    add("--runs", type=Path, default=Path("ablation"), help="where the run folders go")
    add("--out", type=Path, default=HERE, help="where table and figure go")
    add("--only", metavar="NAMES", help="beginnings of run names, between commas")
    add("--table-only", action="store_true", help="from the run folders; nothing is trained")
    return parser


if __name__ == "__main__":
    sys.exit(main())
