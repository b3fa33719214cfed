"""A judged catalog in the formats of others."""
