"""What stands open to other programs: images come in, answers go out."""
