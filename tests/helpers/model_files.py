"""Model files with something changed in them."""

import json
import zipfile
from pathlib import Path


def rebuilt(source, target, members):
    """A copy of a `.keras` file, its members given other content; None leaves one out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            if name not in members:
                new.writestr(name, old.read(name))
        for name, content in members.items():
            if content is not None:
                new.writestr(name, content)
    return target


def rewrite(file, members):
    """`rebuilt` of a `.keras` file (or run folder) in its own place."""
    file = Path(file) / "model.keras" if Path(file).is_dir() else Path(file)
    rebuilt(file, file.with_name("rewritten.keras"), members).replace(file)


def replace_card(file, card):
    """Give a model file another card."""
    rewrite(file, {"card.json": card.to_json()})


def read_member(file, name):
    """A member of a `.keras` file (or run folder), as text."""
    file = Path(file) / "model.keras" if Path(file).is_dir() else Path(file)
    with zipfile.ZipFile(file) as archive:
        return archive.read(name).decode("utf-8")


def as_written_before(folder, *, scaling, root, trained_on, tuned_on):
    """Make a run folder's file one of card format 1: paths, plain digests, scaling in the card."""
    card = json.loads(read_member(folder, "card.json"))
    card["format"] = "cxr-keras card 1"
    del card["calibration"]
    card["scaling"] = scaling
    card["data"]["root"] = str(root)
    lists = {
        name: "\n".join(["digests of pixels, decoding 1", *sorted(digests)])
        for name, digests in (("trained_on.txt", trained_on), ("tuned_on.txt", tuned_on))
    }
    rewrite(folder, {"card.json": json.dumps(card)} | lists)
