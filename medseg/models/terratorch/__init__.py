"""Backbones of terratorch's registry as encoders."""
