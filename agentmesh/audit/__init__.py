"""What calls cost, why caches missed, and what another design would have cost."""
