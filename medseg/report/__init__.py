"""The pages of a report, and their tables."""
