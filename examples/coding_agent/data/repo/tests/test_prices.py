import unittest

from shop.prices import line_total, order_total, shipping


class PricesTest(unittest.TestCase):
    def test_a_line_costs_price_times_quantity(self):
        self.assertEqual(line_total(250, 4), 1000)

    def test_a_discount_is_taken_off(self):
        self.assertEqual(line_total(1000, 2, 10), 1800)

    def test_small_orders_pay_shipping(self):
        self.assertEqual(shipping(4999), 490)

    def test_shipping_is_free_from_fifty_on(self):
        self.assertEqual(shipping(5000), 0)

    def test_an_order_adds_up(self):
        self.assertEqual(order_total([(1000, 2, 10), (500, 1, 0)]), 2790)


if __name__ == "__main__":
    unittest.main()
