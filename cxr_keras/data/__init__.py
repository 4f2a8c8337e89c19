"""Data: NIH's layout, phantoms, the choice of images, pixels and batches."""
