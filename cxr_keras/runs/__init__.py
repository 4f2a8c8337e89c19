"""What a run leaves on disk: the model file with its card, and the run folder."""
