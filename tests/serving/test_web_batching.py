"""The queue in front of the networks: together, in bounds, and to an orderly end."""

import threading
import time
from concurrent.futures import wait
from pathlib import Path

import numpy as np
import pytest

from cxr_keras.data.images import Radiograph
from cxr_keras.inference.files import Prediction
from cxr_keras.serving.web.batching import BATCH, MOST_IMAGES, Batcher
from cxr_keras.serving.web.problems import Problem


class Slow:
    """In place of a predictor: waits for `go`, and remembers its batches."""

    def __init__(self, go=None, seconds=0.0):
        self.go, self.seconds, self.sizes = go, seconds, []
        self.begun = threading.Event()

    def rows(self, batch):
        self.begun.set()
        if self.go is not None:
            assert self.go.wait(20)
        time.sleep(self.seconds)
        self.sizes.append(len(batch))
        return [Prediction(Path(), {"mean": float(image.pixels.mean())}) for _, image in batch]


def image(number):
    return Radiograph(np.full((2, 2), number, "uint8"))


@pytest.fixture
def batcher():
    made = Batcher()
    yield made
    made.end(0)


def test_images_of_many_clients_meet_in_one_batch_and_each_gets_its_own_answer(batcher):
    go = threading.Event()
    one, other = Slow(go), Slow()
    first = batcher.predict(one, image(0))
    assert one.begun.wait(20)
    waiting = [batcher.predict(one, image(n)) for n in range(1, 2 * BATCH)]
    apart = batcher.predict(other, image(7))
    go.set()
    assert [f.result(20).probabilities["mean"] for f in waiting] == list(range(1, 2 * BATCH))
    assert first.result(20).probabilities["mean"] == 0
    assert apart.result(20).probabilities["mean"] == 7
    assert one.sizes == [1, BATCH, BATCH - 1]
    assert other.sizes == [1]


def test_a_batch_that_fails_fails_alone(batcher):
    class Broken:
        def rows(self, batch):
            raise ValueError("no")

    broken = batcher.predict(Broken(), image(1))
    assert batcher.predict(Slow(), image(2)).result(20).probabilities == {"mean": 2.0}
    with pytest.raises(ValueError, match="no"):
        broken.result(20)
    with pytest.raises(KeyError):
        batcher.call(lambda: {}["x"]).result(20)
    assert batcher.call(lambda: 3).result(20) == 3


def test_there_is_room_for_so_many_and_it_comes_back(batcher):
    with batcher.room(MOST_IMAGES - 1), batcher.room(1):
        assert batcher.taken == MOST_IMAGES
        with pytest.raises(Problem) as refused, batcher.room(1):
            pass
        assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})
    with pytest.raises(KeyError), batcher.room(5):
        raise KeyError
    assert batcher.taken == 0


def test_the_end_answers_what_was_accepted_and_takes_no_more():
    batcher, slow = Batcher(), Slow(seconds=0.1)
    with batcher.room(2):
        answers = [batcher.predict(slow, image(n)) for n in range(2)]
        batcher.end(10)
        with pytest.raises(Problem, match="ending"), batcher.room(1):
            pass
        assert [one.result(20).probabilities["mean"] for one in answers] == [0, 1]


def test_the_end_tells_what_it_has_no_time_for():
    go = threading.Event()
    batcher, slow = Batcher(), Slow(go)
    with batcher.room(2):
        first = batcher.predict(slow, image(0))
        assert slow.begun.wait(20)
        late = batcher.call(lambda: 1)
        gone = batcher.call(lambda: 2)
        assert gone.cancel()
        batcher.end(0)
        for one in (first, late):  # what is under way, too: nobody waits for the network
            with pytest.raises(Problem, match="ended before"):
                one.result(20)
        go.set()
        assert batcher.join(20)


def test_after_other_work_images_come_first(batcher):
    go, done = threading.Event(), []
    slow = Slow(go)
    batcher.predict(slow, image(0))
    assert slow.begun.wait(20)
    works = [batcher.call(lambda n=n: done.append(n)) for n in (1, 2)]
    last = batcher.predict(Slow(), image(3))
    last.add_done_callback(lambda _: done.append("image"))
    go.set()
    wait([*works, last], 20)
    assert done == [1, "image", 2]
