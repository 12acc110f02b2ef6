"""Which patch comes next, and batches of them."""
