"""A shop's support desk."""
