"""`serve`: a page to look at what networks say, and an HTTP API for programs."""
