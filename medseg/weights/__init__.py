"""Weights trained elsewhere: read safely, fitted to other channels and shapes, accounted for."""
