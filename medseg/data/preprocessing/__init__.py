"""What the network sees of a case: spacing, crop, normalisation."""
