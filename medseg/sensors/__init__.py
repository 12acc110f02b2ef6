"""Bands of satellites: names, wavelengths, formulas."""
