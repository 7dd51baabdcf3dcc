"""From the likelihood of patches to scores, maps and thresholds."""
