"""Checks: pure functions from a survey to findings, one file for each kind."""
