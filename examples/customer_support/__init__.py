"""A shop's support desk: the same agent offline on stand-ins, and on real models with a key."""
