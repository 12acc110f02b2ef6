"""Metrics as objects, and the scores of whole cases."""
