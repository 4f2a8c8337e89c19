"""Batches of a split."""

import numpy as np

from cxr_keras.data.loader import RadiographLoader
from cxr_keras.data.preparation import prepare


def test_the_loader_shuffles_samples_from_its_own_generator(make_folder):
    rows = [(f"{i:02d}.png", "Mass" if i % 3 else "Edema", i) for i in range(30)]
    split = prepare(make_folder(rows)).split("train")

    def epoch(loader):
        batches = [loader[i] for i in range(len(loader))]
        return np.concatenate([x for x, _ in batches]), np.concatenate([y for _, y in batches])

    plain = RadiographLoader(split, 4)
    x, y = epoch(plain)
    assert x.dtype == np.uint8
    assert x.shape == (len(split), 256, 256, 1)
    np.testing.assert_array_equal(y, split.truth)
    plain.on_epoch_end()
    np.testing.assert_array_equal(epoch(plain)[0], x)

    a, b = RadiographLoader(split, 4, seed=1), RadiographLoader(split, 4, seed=1)
    np.random.seed(0)
    first = epoch(a)
    np.testing.assert_array_equal(first[0], epoch(b)[0])
    assert not np.array_equal(first[0], x)
    assert sorted(first[0].sum(axis=(1, 2, 3))) == sorted(x.sum(axis=(1, 2, 3)))
    sums = {int(image.sum()): truth.tolist() for image, truth in zip(x, y, strict=True)}
    for image, truth in zip(*first, strict=True):
        assert sums[int(image.sum())] == truth.tolist()
    a.on_epoch_end()
    second = epoch(a)[0]
    assert not np.array_equal(second, first[0])
    batches = [{int(f.sum()) for f in e[:4]} for e in (first[0], second)]
    assert batches[0] != batches[1]  # not the same batches in another order
    b.start_epoch(1)
    np.testing.assert_array_equal(epoch(b)[0], second)
