"""The router's measures: each figure with its interval, its baseline and its target."""
