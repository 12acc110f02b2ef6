"""Ways of tuning a network that others have trained: which parameters move, and how fast."""
