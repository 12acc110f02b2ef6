"""Published datasets that medseg-prepare rewrites: a module each, found by walking this folder."""
