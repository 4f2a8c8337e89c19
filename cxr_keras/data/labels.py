"""Labels: the names that a data set or a network knows, in their order.

They belong to the data: each reader brings its own `LabelSet`, which decides the width of a
network's head and stands in its card. NIH ChestX-ray14's 15 are one of them. The order is that of
every probability vector, every `prob_<label>` column and every network's outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from cxr_keras.errors import DataError

NO_FINDING = "No Finding"
SEPARATOR = "|"  # of the names in a cell


def plain(name: str) -> str:
    """`name` as it is compared: case, surrounding blanks and blank-for-underscore do not count."""
    return name.strip().lower().replace(" ", "_")


@dataclass(frozen=True)
class LabelSet:
    """The labels of a data set.

    Attributes:
        names: in order, each once, without "|" and without blanks around it.
        normal: the one of them that says that there is no finding; None if none does.
        aliases: other spelling → the name it means.

    Raises:
        DataError: no name, an empty one, one twice, with "|" in it or blanks around it, or a
            `normal` that is none of them.
    """

    names: tuple[str, ...]
    normal: str | None = None
    aliases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        keys = [plain(name) for name in self.names]
        twice = [name for name, key in zip(self.names, keys, strict=True) if keys.count(key) > 1]
        bad = twice + [name for name in self.names if SEPARATOR in name or name != name.strip()]
        if not self.names or bad or "" in self.names:
            received = ", ".join(map(repr, bad or self.names)) or "none"
            raise DataError(
                "A label set needs one or more names, each once whatever its case, without "
                f"{SEPARATOR!r} and without blanks around it. Received: {received}."
            )
        if self.normal is not None and self.normal not in self.names:
            raise DataError(
                f"The label that means normal, {self.normal!r}, is none of: "
                f"{', '.join(self.names)}."
            )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def findings(self) -> tuple[str, ...]:
        """The names without the one that says that there is no finding."""
        return tuple(name for name in self.names if name != self.normal)

    def canonical(self, name: str) -> str | None:
        """The name of this set that `name` spells, or None.

        Case, surrounding blanks and blank-for-underscore are forgiven.
        """
        spelled = {plain(own): own for own in self.names}
        spelled |= {plain(other): own for other, own in self.aliases.items()}
        return spelled.get(plain(name))


NIH = LabelSet(
    (
        "Atelectasis",
        "Cardiomegaly",
        "Consolidation",
        "Edema",
        "Effusion",
        "Emphysema",
        "Fibrosis",
        "Hernia",
        "Infiltration",
        "Mass",
        NO_FINDING,
        "Nodule",
        "Pleural_Thickening",
        "Pneumonia",
        "Pneumothorax",
    ),
    normal=NO_FINDING,
    aliases={"Infiltrate": "Infiltration"},  # NIH's box list spells it so
)
LABELS, FINDINGS = NIH.names, NIH.findings  # of NIH ChestX-ray14


def normal_of(labels: Iterable[str]) -> str | None:
    """The label that says that there is no finding, by its name; None if none does."""
    return next((name for name in labels if plain(name) in ("no_finding", "normal")), None)


def canonical_label(name: str) -> str | None:
    """The one of NIH's labels that `name` means, or None, see `LabelSet.canonical`."""
    return NIH.canonical(name)


def split_labels(text: str) -> list[str]:
    """Split a `"A|B"` cell into its names, blanks stripped, empty parts left out."""
    return [part for part in (part.strip() for part in text.split(SEPARATOR)) if part]
