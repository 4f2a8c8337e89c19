"""Commands that stand open to other programs."""

from __future__ import annotations

from pathlib import Path

import click

from cxr_keras.cli.options import FOLDER, device_option, precision_option
from cxr_keras.cli.results import RUN
from cxr_keras.serving.options import HOST, PORT, TITLE


@click.command()
@click.argument("run", type=RUN)
@click.option("--out", type=FOLDER, required=True, help="Folder of queue, reports and outbox.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=PORT,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--host",
    default=HOST,
    show_default=True,
    help="Address to listen on. DICOM asks nobody for a password: open another one only in a "
    "network that you trust.",
)
@click.option("--ae-title", default=TITLE, show_default=True, help="This listener's name.")
@click.option("--accept", metavar="AE,…", help="Names of senders to let in  [default: all]")
@click.option("--forward", metavar="AE@HOST:PORT", help="Send each report there, too.")
@precision_option
@device_option
def listen(
    run: Path,
    out: Path,
    port: int,
    host: str,
    ae_title: str,
    accept: str | None,
    forward: str | None,
    precision: str,
) -> None:
    """Take DICOM images by C-STORE and answer each with a Structured Report.

    An image is acknowledged when it is decoded and on disk, and leaves the queue when its report is
    written: a kill loses nothing. What cannot be read is refused with a DICOM status. Reports are
    for research use only. Needs the extra dicom: pip install "cxr-keras[dicom]".

    \b
    Examples:
      cxr-keras listen saved_models/resnet18-ep30-lr0.0005 --out answers
      cxr-keras listen saved_models/resnet18-ep30-lr0.0005 --out answers --forward PACS@10.0.0.5:104
    """
    from cxr_keras.inference.opened import Opened
    from cxr_keras.serving.listener import Listener, Receiver

    receiver = Receiver.of(forward) if forward else None
    titles = tuple(name.strip() for name in (accept or "").split(",") if name.strip())
    opened = Opened(run, precision)  # type: ignore[arg-type]
    listener = Listener(opened, out, title=ae_title, forward=receiver, accept=titles)
    opened.say_limits()
    listener.run(host, port)
