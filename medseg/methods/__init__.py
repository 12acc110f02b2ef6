"""LightningModules: one way of training each."""
