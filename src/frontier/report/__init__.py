"""One self-contained page, a model card and the figures of a run, made from its stages' outputs."""
