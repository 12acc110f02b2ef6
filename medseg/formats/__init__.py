"""Files of volumes: open(path) gives a Source that reads boxes; write puts an array on a grid."""
