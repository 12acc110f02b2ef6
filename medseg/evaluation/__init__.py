"""Label files -> scores and reports."""
