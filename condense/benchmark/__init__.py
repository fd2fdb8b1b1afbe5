"""Benchmarks: a grid of independent cells, the executors that run them, and the report."""
