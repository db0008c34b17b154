"""Tests of the service."""

import unittest

from app.app import app


class Links(unittest.TestCase):
    def test_follow(self):
        client = app.test_client()
        self.assertEqual(client.get("/a").status_code, 404)
        self.assertEqual(client.post("/a", data={"to": "http://b/"}).status_code, 201)
        self.assertEqual(client.get("/a").headers["Location"], "http://b/")


if __name__ == "__main__":
    unittest.main()
