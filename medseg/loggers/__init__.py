"""Where scores, pictures and files of a training are logged."""
