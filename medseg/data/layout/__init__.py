"""Which files belong to a case: patterns, pairs, dates."""
