"""Engines: a function of a case, called for many cases by one process, by several, or by machines of a cluster."""
