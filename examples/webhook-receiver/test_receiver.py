"""python3 -m unittest discover -s examples/webhook-receiver"""

import unittest

from receiver import Once, Refused, verify

# The example of the specification.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'
TIME = 1614265330
SIGNED = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": str(TIME),
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}


class Verify(unittest.TestCase):
    def refused(self, headers, body=BODY, now=TIME):
        with self.assertRaises(Refused) as why:
            verify(SECRET, headers, body, now)
        return str(why.exception)

    def test_what_is_signed_is_taken(self):
        self.assertEqual(verify(SECRET, SIGNED, BODY, TIME), SIGNED["webhook-id"])
        two = {**SIGNED, "webhook-signature": "v1,bm9wZQ== " + SIGNED["webhook-signature"]}
        self.assertEqual(verify(SECRET, two, BODY, TIME), SIGNED["webhook-id"])

    def test_what_is_not_signed_is_refused(self):
        self.assertIn("not signed", self.refused({}))
        self.assertIn("not match", self.refused(SIGNED, BODY + b" "))
        self.assertIn("not match", self.refused({**SIGNED, "webhook-id": "another"}))
        self.assertIn("too old", self.refused(SIGNED, now=TIME + 301))
        self.assertIn("no number", self.refused({**SIGNED, "webhook-timestamp": "soon"}))

    def test_an_event_is_taken_once(self):
        once = Once()
        self.assertEqual([once.first("a"), once.first("b"), once.first("a")], [True, True, False])


if __name__ == "__main__":
    unittest.main()
