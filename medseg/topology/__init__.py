"""Topology of masks: components, loops and cavities, and which of them two images share."""
