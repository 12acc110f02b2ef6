"""Which networks predict together, with which mirrors and post-processing, decided on out-of-fold predictions."""
