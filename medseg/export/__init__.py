"""A trained predictor as a folder that runs without this package."""
