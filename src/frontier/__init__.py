"""Frontier: a dataset, a device and a latency budget in; a detector that meets them out."""

__version__ = "0.1.0"
