"""Configurations: composed by Hydra, checked, explained in one line, listed."""
