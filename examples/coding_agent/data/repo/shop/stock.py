"""What lies on the shelves."""


class Stock:
    """Pieces of each article."""

    def __init__(self, pieces):
        self.pieces = dict(pieces)

    def available(self, article, quantity):
        """Return whether `quantity` pieces can be sold."""
        return self.pieces.get(article, 0) >= quantity

    def take(self, article, quantity):
        """Take pieces off the shelf and return how many are left."""
        if not self.available(article, quantity):
            raise ValueError(f"only {self.pieces.get(article, 0)} of {article}")
        self.pieces[article] -= quantity
        return self.pieces[article]

    def to_reorder(self, minimum):
        """Return the articles of which fewer than `minimum` pieces are left, sorted."""
        return sorted(name for name, left in self.pieces.items() if left < minimum)
