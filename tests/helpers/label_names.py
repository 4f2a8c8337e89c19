"""Labels as people write them, and what they mean."""

from __future__ import annotations

from hypothesis import strategies as st

from cxr_keras.data.labels import LABELS

IMAGE, CELL, PATIENT = "Image Index", "Finding Labels", "Patient ID"  # columns
blanks = st.text(" \t\n\x0b\u00a0", max_size=3)


@st.composite
def misspelt(draw: st.DrawFn, *labels: str) -> str:
    """One of `labels` in other case, with blanks for underscores or around it."""
    letters = list(draw(st.sampled_from(labels)))
    for index, letter in enumerate(letters):
        choices = (" ", "_") if letter in " _" else (letter.lower(), letter.upper())
        letters[index] = draw(st.sampled_from(choices))
    return draw(blanks) + "".join(letters) + draw(blanks)


def meaning(name: str) -> str | None:
    """`canonical_label` the slow way."""
    plain = name.strip().lower().replace(" ", "_")
    if plain == "infiltrate":
        return "Infiltration"
    for label in LABELS:
        if label.lower().replace(" ", "_") == plain:
            return label
    return None
