"""Images as numbers: pixels, sizes, tiles and filters."""
