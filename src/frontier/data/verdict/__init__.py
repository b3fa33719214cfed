"""What is wrong with a catalog, and how it is told."""
