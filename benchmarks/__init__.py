"""Timings of the operators beside the alternatives that users have, on the machine that runs them."""
