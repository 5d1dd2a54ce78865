"""Benchmarks: programs that print a table, run by hand. Results are kept in docs/benchmarks.md."""
