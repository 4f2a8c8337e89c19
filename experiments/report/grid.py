"""The report's runs as data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cxr_keras import CxrError

PRETRAINED = ("alexnet", "resnet18", "densenet121", "vgg16", "vgg19")
PER_CLASS = 300
QUICK_EPOCHS = {15: 2, 30: 3}
QUICK_PER_CLASS = 20  # all of the 256 phantoms, or nearly
QUICK_PER_CLASS_LARGE = 4  # for the networks that take seconds an image
LARGE = ("densenet121", "vgg16", "vgg19")

# Seconds an image on 2 cores: training all layers, features once, an epoch behind a frozen part.
_COST = {
    "alexnet": (0.02, 0.005, 0.0015),
    "alexnet_custom": (0.02, 0.0, 0.0),
    "resnet18": (0.06, 0.017, 0.0002),
    "resnet_custom": (0.017, 0.0, 0.0),
    "densenet_custom": (0.023, 0.0, 0.0),
    "densenet121": (0.4, 0.1, 0.0002),
    "vgg16": (0.4, 0.12, 0.004),
    "vgg19": (0.5, 0.15, 0.004),
}
_START_SECONDS = 8.0


@dataclass(frozen=True)
class Plan:
    """One run of the grid.

    Attributes:
        table: C1…C14 of the report, "A" for its Appendix A, or a network without a table.
        model, epochs, lr, loss, weights, per_class: as in `cxr_keras.train`.
        report_epochs: the report's, where `epochs` is shortened.
    """

    table: str
    model: str
    epochs: int
    lr: float
    loss: str = "bce"
    weights: str | None = None
    per_class: int = PER_CLASS
    report_epochs: int = 0

    @property
    def name(self) -> str:
        """Of the run folder."""
        begin = "" if self.table == self.model else f"{self.table}-"
        return f"{begin}{self.model}-ep{self.epochs}-lr{self.lr:g}"

    @property
    def settings(self) -> dict[str, Any]:
        """What `cxr_keras.train` is given."""
        names = ("epochs", "lr", "loss", "weights", "per_class")
        return {name: getattr(self, name) for name in names} | {"split_method": "paper"}

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.table}: {self.model}, {self.epochs} epochs, learning rate {self.lr:g}"

    @property
    def cost(self) -> float:
        """Seconds that the run takes on 2 cores, roughly: only the shares of the grid matter."""
        whole, once, epoch = _COST.get(self.model, (0.02, 0.0, 0.0))
        frozen = self.model in PRETRAINED and self.weights != "none"
        images = 15 * self.per_class
        image = once + self.epochs * epoch if frozen else self.epochs * whole
        return _START_SECONDS + images * image


_LENGTHS = {
    "alexnet": (15, 30),
    "resnet18": (15,),
    "alexnet_custom": (15, 30),
    "resnet_custom": (15,),
    "densenet_custom": (15,),
}
_RUNS = [(m, e, lr) for m, lengths in _LENGTHS.items() for e in lengths for lr in (0.001, 0.0005)]

# The facts at hand do not say how Appendix A's run, or the three that failed, were set: the first
# takes the settings of the best custom AlexNet, the others 15 epochs at the better learning rate.
PLANS: tuple[Plan, ...] = (
    *(Plan(f"C{i}", *run, report_epochs=run[1]) for i, run in enumerate(_RUNS, 1)),
    Plan("A", "alexnet_custom", 30, 0.0005, loss="bce_logits", report_epochs=30),
    *(Plan(m, m, 15, 0.0005, report_epochs=15) for m in LARGE),
)


def choose(only: str | None) -> list[Plan]:
    """The plans that `only` names: networks or tables, between commas; None for all.

    Raises:
        CxrError: a name is neither.
    """
    if not only:
        return list(PLANS)
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    known = {plan.model for plan in PLANS} | {plan.table for plan in PLANS}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise CxrError(
            f"The grid has no {', '.join(map(repr, unknown))}. Choose networks "
            f"({', '.join(dict.fromkeys(plan.model for plan in PLANS))}) or tables (C1…C14, A)."
        )
    return [plan for plan in PLANS if plan.model in wanted or plan.table in wanted]


def shortened(plan: Plan) -> Plan:
    """The same run in seconds: few epochs and images, and nothing to fetch."""
    return replace(
        plan,
        epochs=QUICK_EPOCHS[plan.epochs],
        per_class=QUICK_PER_CLASS_LARGE if plan.model in LARGE else QUICK_PER_CLASS,
        weights="none" if plan.model in PRETRAINED else None,
    )


def with_weights(plan: Plan, folder: Path) -> Plan:
    """The same run from a `.pth` file in `folder`, where the network starts from ImageNet.

    Raises:
        CxrError: there is none for this network.
    """
    if plan.model not in PRETRAINED:
        return plan
    found = sorted([*folder.glob(f"{plan.model}.pth"), *folder.glob(f"{plan.model}-*.pth")])
    if not found:
        raise CxrError(
            f"{folder} holds no weights of {plan.model}: expected {plan.model}.pth, or "
            f"torchvision's own name ({plan.model}-….pth)."
        )
    return replace(plan, weights=str(found[0].resolve()))
