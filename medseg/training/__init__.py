"""One training: its run folder, how it resumes, how it ends."""
