"""The ledger against the vendors' own bills."""
