"""What the tools cost and what they keep in, printed by `python -m benchmarks.tools`."""
