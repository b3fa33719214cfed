"""From a judged catalog to batches: packed once, read fast."""
