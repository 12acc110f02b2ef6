"""From files to batches: cases, splits, preprocessing, patch store, sampling."""
