"""Prepared cases on disk, a cache."""
