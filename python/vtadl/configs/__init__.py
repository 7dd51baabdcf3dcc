"""Packaged settings for `--config NAME`."""
