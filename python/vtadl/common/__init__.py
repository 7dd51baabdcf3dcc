"""Helpers that every package may use: precision, ranges of numbers, files, progress."""
