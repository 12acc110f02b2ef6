"""Batched augmentation on the device: parameters are drawn, then applied."""
