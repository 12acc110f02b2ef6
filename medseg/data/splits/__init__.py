"""Who trains and who validates; leaks between the two."""
