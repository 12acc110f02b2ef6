"""From files to a sample: channels, label, valid cells."""
