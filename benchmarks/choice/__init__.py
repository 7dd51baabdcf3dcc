"""How well the choice of experts generalises to data sets that it was not designed for."""
