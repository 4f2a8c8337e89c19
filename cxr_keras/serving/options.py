"""Defaults that the command line shows; this module imports nothing heavy."""

from __future__ import annotations

HOST, PORT, TITLE = "127.0.0.1", 11112, "CXRKERAS"  # of the DICOM listener
WEB_PORT = 8000  # of the page and its API
TOKEN_LETTERS = 16  # of a token, at least
TOKEN_VARIABLE = "CXR_KERAS_TOKEN"
