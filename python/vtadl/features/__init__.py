"""The features of patches: windows of pixels, local energies, and hidden states of frozen networks."""
