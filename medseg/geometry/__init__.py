"""Where cells lie in the world: the only code that knows affines and coordinate systems."""
