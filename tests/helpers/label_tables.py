"""Label tables made of label cells, without files."""

from pathlib import Path

import pandas as pd
from hypothesis import strategies as st

from cxr_keras.data.dataset import Dataset
from cxr_keras.data.labels import LABELS


def table_of(cells, patients=None):
    return pd.DataFrame(
        {
            "Image Index": [f"{i:05d}.png" for i in range(len(cells))],
            "Finding Labels": cells,
            "Patient ID": [str(p) for p in (patients or range(len(cells)))],
        }
    )


def dataset_of(table, **lists):
    return Dataset(Path("nowhere"), table, {name: frozenset(x) for name, x in lists.items()})


cells = st.sets(st.sampled_from(LABELS[:6]), min_size=1, max_size=3).map(
    lambda names: "|".join(sorted(names))
)
tables = st.lists(st.tuples(cells, st.integers(0, 20)), min_size=12, max_size=80).map(
    lambda rows: table_of([c for c, _ in rows], [p for _, p in rows])
)
