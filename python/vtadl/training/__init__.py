"""The trainer, and what it does besides the steps of Lightning."""
