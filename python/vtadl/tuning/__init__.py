"""The choice of a density's settings, and its fit, before the network is trained."""
