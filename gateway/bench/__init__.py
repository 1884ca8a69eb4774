"""The project's own measurements, one module a subject; `litfass bench` runs them and writes docs/benchmarks.md."""
