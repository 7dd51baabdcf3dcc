"""Timings of the operators against what users would take otherwise, on the machine that runs them."""
