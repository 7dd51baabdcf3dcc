"""The page about a test."""
