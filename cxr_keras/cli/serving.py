"""Commands that stand open to other programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cxr_keras.cli.options import FOLDER, Command, device_option, precision_option
from cxr_keras.cli.results import RUN
from cxr_keras.cli.starting import needs_keras
from cxr_keras.serving.options import HOST, PORT, TITLE, TOKEN_VARIABLE, WEB_PORT


def _port_option(default: int) -> Callable[[Command], Command]:
    """On which port a server listens."""
    return click.option(
        "--port",
        type=click.IntRange(0, 65535),
        default=default,
        show_default=True,
        help="Port to listen on; 0 takes a free one.",
    )


@click.command()
@click.argument("run", type=RUN)
@click.option("--out", type=FOLDER, required=True, help="Folder of queue, reports and outbox.")
@_port_option(PORT)
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
@needs_keras
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


@click.command()
@click.argument("runs", nargs=-1, required=True, type=RUN)
@_port_option(WEB_PORT)
@click.option(
    "--host",
    default=HOST,
    show_default=True,
    help="Address to listen on. One that other machines reach needs --token, and a server with TLS "
    "in front.",
)
@click.option(
    "--token",
    envvar=TOKEN_VARIABLE,
    help=f"What requests must show: Authorization: Bearer TOKEN. Better set ${TOKEN_VARIABLE}, "
    "which the machine's other users cannot read.",
)
@click.option(
    "--allow-host",
    "allow_hosts",
    metavar="NAME",
    multiple=True,
    help="A further name by which the server may be called, such as a proxy's; may be repeated.",
)
@click.option(
    "--truth",
    type=FOLDER,
    help="A data folder: of images with the names of its files, its labels and boxes are shown.",
)
@precision_option
@device_option
@needs_keras
def serve(runs: tuple[Path, ...], **options: Any) -> None:
    """Open RUNS (run folders, .keras or .onnx files) in the browser, and to programs.

    The page shows images with their findings and heat maps, and each run's test split; the API is
    described at /openapi.json. Only this machine reaches it, unless --host says otherwise. Images
    stay in memory. For research use only. Needs the extra serve: pip install "cxr-keras[serve]".

    \b
    Examples:
      cxr-keras serve saved_models/alexnet_custom-ep30-lr0.0005
      cxr-keras serve saved_models/RUN_A saved_models/RUN_B --truth data/nih
    """
    from cxr_keras.serving.web.server import serve

    serve(runs, **options)
