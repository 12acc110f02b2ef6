"""Formats that medseg reads: one module each, found by walking this folder; libraries are imported in the methods."""
