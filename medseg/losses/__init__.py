"""Loss functions, pure, and the modules that hold their settings."""
