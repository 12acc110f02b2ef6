"""Encoders: networks whose features others decode, one family a file."""
