"""Networks and encoders of MONAI."""
