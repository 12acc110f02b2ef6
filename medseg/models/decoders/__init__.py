"""Decoders: from the features of any encoder to logits, one a file."""
