"""Several trainings: searches, and what one setting brings next to another."""
