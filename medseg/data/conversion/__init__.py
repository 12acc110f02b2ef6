"""Published files -> layouts that are read."""
