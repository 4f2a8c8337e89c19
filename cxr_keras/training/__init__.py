"""One run: from a network and data to a finished run folder."""
