"""Networks for time series, made of any network for one date: dates stacked, or pooled; one way a file."""
