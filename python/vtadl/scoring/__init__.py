"""Scores of images and pixels, and the thresholds that normal images seldom exceed."""
