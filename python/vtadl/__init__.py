"""VT-ADL, an image anomaly detector built on the operators of vtadl_ext."""
