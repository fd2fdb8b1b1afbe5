"""A benchmark: a grid of independent cells, where they run, and the report on them."""
