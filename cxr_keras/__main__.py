"""`python -m cxr_keras` is `cxr-keras`."""

from cxr_keras.cli import main

main(prog_name="cxr-keras")
