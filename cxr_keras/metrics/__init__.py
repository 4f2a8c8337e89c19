"""Arrays → tables and the numbers of figures; no Keras, no images, no files."""
