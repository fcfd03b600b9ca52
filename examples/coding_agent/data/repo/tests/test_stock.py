import unittest

from shop.stock import Stock


class StockTest(unittest.TestCase):
    def setUp(self):
        self.stock = Stock({"tent": 3, "lamp": 0})

    def test_the_last_piece_can_be_sold(self):
        self.assertTrue(self.stock.available("tent", 3))
        self.assertFalse(self.stock.available("lamp", 1))

    def test_taking_leaves_the_rest(self):
        self.assertEqual(self.stock.take("tent", 2), 1)

    def test_what_is_not_there_cannot_be_taken(self):
        with self.assertRaises(ValueError):
            self.stock.take("lamp", 1)

    def test_what_runs_low_is_reordered(self):
        self.assertEqual(self.stock.to_reorder(3), ["lamp"])


if __name__ == "__main__":
    unittest.main()
