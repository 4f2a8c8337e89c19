"""Write docs/reference/: what is public, from docstrings and from `--help`.

python docs/make_reference.py

A test compares the two files with the program, so a change of what is public is a change here.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import cxr_keras
from cxr_keras.cli import main as command_line
from cxr_keras.data.reading import Reading
from cxr_keras.training.config import TrainConfig

HERE = Path(__file__).parent / "reference"
WIDTH = 100
HEAD = "*Made by `docs/make_reference.py`; do not edit.*"


def commands() -> str:
    """Every command and its `--help`."""
    parts = ["# Commands, as `--help` says them", HEAD]
    group = command_line
    settings = group.context_settings | {"terminal_width": WIDTH, "max_content_width": WIDTH}
    context = click.Context(group, info_name="cxr-keras", **settings)
    parts.append(f"```text\n{group.get_help(context)}\n```")
    for name in sorted(group.commands):
        inner = click.Context(group.commands[name], info_name=name, parent=context)
        parts += _help_of(name, group.commands[name], inner)
    return "\n\n".join(parts) + "\n"


def _help_of(title: str, command: click.Command, context: click.Context) -> list[str]:
    """A command's help, and that of the commands in it."""
    context.terminal_width = WIDTH
    parts = [f"## {title}\n\n```text\n{command.get_help(context)}\n```"]
    for name, inner in sorted(command.commands.items() if isinstance(command, click.Group) else ()):
        place = click.Context(inner, info_name=name, parent=context)
        parts += _help_of(f"{title} {name}", inner, place)
    return parts


def python() -> str:
    """Every public name with its signature and docstring."""
    parts = [
        "# Python",
        HEAD,
        "What `from cxr_keras import …` gives. These names, their arguments and what they return "
        "stay as they are within a minor version; what is not here may change at any time.",
    ]
    for name in sorted(cxr_keras.__all__, key=str.lower):
        found = getattr(cxr_keras, name)
        if name.startswith("__") or not callable(found):
            parts.append(f"## {name}\n\n`{found!r}`" if name != "__version__" else "")
            continue
        parts.append(f"## {name}\n\n{_described(name, found)}")
        for member, function in _methods(found):
            parts.append(f"### {name}.{member}\n\n{_described(member, function)}")
    for title, settings in (("Settings of train", TrainConfig), ("How data is read", Reading)):
        parts.append(f"## {title}\n\n{_described(settings.__name__, settings)}")
    return "\n\n".join(part for part in parts if part) + "\n"


def _described(name: str, found: Callable[..., Any]) -> str:
    signature = "" if _is_exception(found) else f"{name}{_signature(found)}"
    signature = re.sub(r"(: |-> )'([^']*)'", r"\1\2", signature)  # annotations are texts
    text = inspect.getdoc(found) or ""
    shown = f"```text\n{text}\n```"
    return f"```python\n{signature}\n```\n\n{shown}" if signature else shown


def _signature(found: Callable[..., Any]) -> str:
    """A signature, an argument a line where it is long."""
    signature = inspect.signature(found)
    if dataclasses.is_dataclass(found):
        fields = [f"{one.name}: {one.type}{_default(one)}" for one in dataclasses.fields(found)]
        return "(\n" + "".join(f"    {field},\n" for field in fields) + ")"
    text = str(signature).replace("typing.", "")
    if len(text) < WIDTH - 20:
        return text
    returned = signature.return_annotation
    ends = "" if returned is inspect.Signature.empty else f" -> {returned}"
    lines, star = [], False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            lines.append("*")
            star = True
        lines.append(str(parameter))
    return "(\n" + "".join(f"    {line},\n" for line in lines) + f"){ends}"


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return f" = {field.default!r}"
    return "" if field.default_factory is dataclasses.MISSING else " = …"


def _methods(found: Any) -> list[tuple[str, Any]]:
    """Public methods and properties that a class of ours defines."""
    if not inspect.isclass(found) or _is_exception(found):
        return []
    members = []
    for name, value in vars(found).items():
        raw = value.fget if isinstance(value, property) else value
        raw = getattr(raw, "__func__", raw)
        if not name.startswith("_") and inspect.isfunction(raw):
            members.append((name, raw))
    return members


def _is_exception(found: Any) -> bool:
    return inspect.isclass(found) and issubclass(found, BaseException)


FILES = {"commands.md": commands, "python.md": python}


def main() -> None:
    """Write both files."""
    HERE.mkdir(exist_ok=True)
    for name, make in FILES.items():
        (HERE / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
