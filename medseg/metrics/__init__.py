"""Scores of whole cases, and their accumulation."""
