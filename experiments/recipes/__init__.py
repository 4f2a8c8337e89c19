"""What each piece of the modern recipe gives on real radiographs."""
