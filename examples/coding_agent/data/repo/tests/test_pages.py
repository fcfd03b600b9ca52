import unittest

from shop.pages import page, pages


class PagesTest(unittest.TestCase):
    def test_the_first_page_holds_the_first_items(self):
        self.assertEqual(page(list("abcdefg"), 1, 3), ["a", "b", "c"])

    def test_the_last_page_may_be_short(self):
        self.assertEqual(page(list("abcdefg"), 3, 3), ["g"])

    def test_pages_are_counted(self):
        self.assertEqual(pages(list("abcdefg"), 3), 3)


if __name__ == "__main__":
    unittest.main()
