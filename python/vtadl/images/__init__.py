"""Images as arrays and tensors: pixels, sizes, tiles and filters."""
