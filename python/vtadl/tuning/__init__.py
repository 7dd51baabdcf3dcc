"""The choice of the settings of a density, and its fit, before the network is trained."""
