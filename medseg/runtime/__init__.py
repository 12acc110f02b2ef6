"""The machine that a command runs on: signals, locks, drafts of files."""
