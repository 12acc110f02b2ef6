"""Fingerprint of a dataset, the rules that turn it into a plan, and the plan file."""
