"""From a network to whole-case predictions."""
