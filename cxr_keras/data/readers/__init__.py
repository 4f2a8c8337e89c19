"""Data sets: one module each, from a folder to a table of images."""
