"""The dictionary of vtadl beside PatchCore and PaDiM of anomalib, on the same features."""
