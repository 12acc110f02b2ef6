"""Encoders and networks of torchgeo, for any bands."""
