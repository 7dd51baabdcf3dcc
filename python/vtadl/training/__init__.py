"""Training: the trainer, its callbacks and plugins."""
