"""Settings by name, for `--config NAME` of the command line."""
