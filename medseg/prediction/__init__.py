"""A checkpoint and image files -> label files."""
