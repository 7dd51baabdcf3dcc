"""Industrial parts that are drawn, with the flaws that such parts have."""
