"""Cases that the package draws itself."""
