"""Views: which side of a chest a radiograph shows, and which of them are wanted."""

from __future__ import annotations

import pandas as pd

from cxr_keras.data.dataset import VIEW
from cxr_keras.errors import DataError

FRONTAL = ("PA", "AP", "FRONTAL")  # the last where nobody says which of the two
EVERY_VIEW = "all"


def choose_views(
    table: pd.DataFrame, views: tuple[str, ...] | None, notices: list[str]
) -> pd.DataFrame:
    """The rows with the wanted views; says how many others there were.

    Args:
        table: of images; its column "View Position", if it has one, is empty where nobody knows.
        views: names of views, or "all"; None for those that are frontal or unknown.
        notices: gets a sentence on what is left out.

    Raises:
        DataError: no row is left.
    """
    if views is not None and EVERY_VIEW in map(str.lower, views):
        return table
    if VIEW not in table.columns:
        if views is not None:
            raise DataError(
                f"The data says no view of its images, so --views {','.join(views)} chooses none. "
                "Leave --views out."
            )
        return table
    known = table[VIEW].fillna("").str.strip().str.upper()
    wanted = {"", *FRONTAL} if views is None else {view.strip().upper() for view in views}
    kept = known.isin(wanted)
    if not kept.any():
        counts = known.value_counts().items()
        there = ", ".join(f"{view or 'unknown'} ({n:,})" for view, n in counts)
        raise DataError(
            f"No image has one of the views {', '.join(sorted(wanted - {''}))}; there are {there}. "
            f"Give --views with some of them, or --views {EVERY_VIEW}."
        )
    if not kept.all():
        counts = known[~kept].value_counts()
        named = ", ".join(f"{view or 'unknown'} {count:,}" for view, count in counts.items())
        which = "are not frontal" if views is None else "are of other views"
        notices.append(f"{int((~kept).sum()):,} images {which}: left out ({named}); --views keeps.")
    return table[kept]
