"""Measures of the cache economy that need no model and no network."""
