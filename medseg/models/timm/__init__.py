"""Encoders of timm."""
