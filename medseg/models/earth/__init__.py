"""Encoders of satellite images by their published descriptions, one family a file."""
