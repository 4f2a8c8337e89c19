"""A trained network measured: evaluate, calibrate, compare, ensemble."""
