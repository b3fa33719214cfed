"""From the files of a dataset to a catalog."""
