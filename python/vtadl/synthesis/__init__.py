"""Images that are made: textures, pieces of photographs, and anomalies."""
