"""Prices, in cents."""

FREE_SHIPPING_FROM = 5000
SHIPPING = 490


def line_total(price, quantity, discount_percent=0):
    """Return what `quantity` pieces cost after a discount."""
    total = price * quantity
    return total - total * discount_percent // 100


def shipping(total):
    """Return the shipping cost of an order; it is free from a certain total on."""
    if total > FREE_SHIPPING_FROM:
        return 0
    return SHIPPING


def order_total(lines):
    """Return what an order costs; `lines` holds (price, quantity, discount) of each article."""
    total = sum(line_total(*line) for line in lines)
    return total + shipping(total)
