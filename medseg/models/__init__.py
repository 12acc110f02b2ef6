"""Networks for two and three dimensions behind one interface."""
