"""Benchmarks of distillation; run with `python -m benchmarks.distill`."""
