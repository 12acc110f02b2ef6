"""Networks and encoders of transformers."""
