from wire import Decoder, encoded


def test_whole_messages():
    assert Decoder().feed(encoded(b"one") + encoded(b"two")) == [b"one", b"two"]


def test_an_empty_message():
    assert Decoder().feed(encoded(b"")) == [b""]
