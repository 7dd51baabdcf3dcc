"""Synthetic images: textures, crops of photographs, backgrounds and anomalies."""
