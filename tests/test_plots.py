"""Figures that are saved as they are laid out: nothing is cut off and nothing overlaps."""

from itertools import pairwise

import numpy as np
import pytest

from cxr_keras import LABELS
from cxr_keras.metrics.calibration import ALL_LABELS, reliability_table
from cxr_keras.plots import reliability_figure

LONG = (
    "Support devices (lines, tubes and drains) of any kind and make",
    "ENLARGED CARDIOMEDIASTINUM WITH A WIDENED AORTA",
    "pleural_thickening_or_calcification_of_any_kind",
)


@pytest.mark.parametrize("labels", [LABELS, LONG, ("Mass",), LONG * 3 + ("Mass",)], ids=len)
def test_what_a_reliability_figure_says_lies_on_its_page_and_beside_the_rest(labels):
    labels = [f"{number} {name}" for number, name in enumerate(labels)]
    rng = np.random.default_rng(0)
    probability = rng.random((40, len(labels)))
    figure = reliability_figure(
        reliability_table(probability > rng.random(probability.shape), probability, labels=labels)
    )
    figure.draw_without_rendering()
    panels = [axes for axes in figure.axes if axes.axison]
    titles = [axes.title.get_text() for axes in panels]
    assert [title.split()[0] for title in titles[:-1]] == [name.split()[0] for name in labels]
    assert titles[-1] == ALL_LABELS
    texts = [axes.title for axes in panels] + figure.texts
    texts += [
        text for axes in panels for text in (*axes.get_xticklabels(), *axes.get_yticklabels())
    ]
    page, places = figure.bbox, [text.get_window_extent() for text in texts]
    for place in places:
        assert page.x0 <= place.x0 <= place.x1 <= page.x1
        assert page.y0 <= place.y0 <= place.y1 <= page.y1
    for number, place in enumerate(places):
        assert not any(place.overlaps(other) for other in places[number + 1 :]), texts[number]
    squares = [axes.get_window_extent() for axes in panels]
    assert all(np.isclose(square.width, square.height) for square in squares)
    assert not any(one.overlaps(other) for one, other in pairwise(squares))
