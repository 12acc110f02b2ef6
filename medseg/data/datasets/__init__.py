"""One module a dataset layout."""
