"""Datasets of torchgeo behind our own reading: what they list, what they give, what they say of themselves."""
