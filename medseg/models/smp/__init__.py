"""Networks and decoders of segmentation-models-pytorch."""
