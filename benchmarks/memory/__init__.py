"""Memory's measures: what a turn costs, how it grows, and what happens in a crowd."""
