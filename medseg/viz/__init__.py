"""Arrays -> pictures: overlays, planes, false colour, figures."""
