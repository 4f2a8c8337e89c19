"""Defaults that the command line shows; this module imports nothing heavy."""

from __future__ import annotations

HOST, PORT, TITLE = "127.0.0.1", 11112, "CXRKERAS"  # of the DICOM listener
