"""A small web shop's sums."""
