"""The embedded dataset, drawn from a seed."""
