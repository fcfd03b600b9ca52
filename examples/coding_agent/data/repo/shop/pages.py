"""A long listing in pages."""


def page(items, number, size):
    """Return the page `number` of `items`; the first page is number 1."""
    if number < 1 or size < 1:
        raise ValueError("pages are counted from 1 and hold at least one item")
    start = (number + 1) * size
    return items[start : start + size]


def pages(items, size):
    """Return how many pages a listing has."""
    return -(-len(items) // size)
