"""A configuration -> the objects of a training or of a prediction."""
