import random

from wire import Decoder, TooLong, encoded

MESSAGES = [b"one", b"", b"three" * 50, bytes(range(256)), b"x"]
STREAM = b"".join(map(encoded, MESSAGES))


def fed(pieces, **limits):
    decoder = Decoder(**limits)
    return [message for piece in pieces for message in decoder.feed(piece)]


def refuses(decoder, data):
    try:
        decoder.feed(data)
    except TooLong:
        return True
    return False


def test_one_byte_at_a_time():
    assert fed([STREAM[i : i + 1] for i in range(len(STREAM))]) == MESSAGES


def test_pieces_of_any_size():
    draw = random.Random(1)
    for _ in range(50):
        cuts = sorted(draw.sample(range(len(STREAM)), 7))
        assert fed([STREAM[a:b] for a, b in zip([0, *cuts], [*cuts, len(STREAM)])]) == MESSAGES


def test_half_a_header():
    decoder = Decoder()
    assert decoder.feed(encoded(b"hello")[:2]) == []
    assert decoder.feed(encoded(b"hello")[2:]) == [b"hello"]


def test_two_and_a_bit():
    decoder = Decoder()
    assert decoder.feed(encoded(b"a") + encoded(b"b") + encoded(b"cc")[:5]) == [b"a", b"b"]
    assert decoder.waiting == 5
    assert decoder.feed(b"c") == [b"cc"]
    assert decoder.waiting == 0


def test_nothing_is_nothing():
    decoder = Decoder()
    assert decoder.feed(b"") == []
    assert decoder.feed(encoded(b"")) == [b""]


def test_too_long_is_refused_as_soon_as_it_is_known():
    assert refuses(Decoder(most=10), encoded(b"x" * 11)[:4])
    assert fed([encoded(b"x" * 10)], most=10) == [b"x" * 10]


def test_after_that_all_is_refused():
    decoder = Decoder(most=10)
    assert refuses(decoder, encoded(b"x" * 11))
    assert refuses(decoder, encoded(b"ok"))
    assert refuses(decoder, b"")


def test_decoders_are_apart():
    first, second = Decoder(), Decoder()
    first.feed(b"\x00\x00")
    assert second.feed(encoded(b"b")) == [b"b"]
    assert first.feed(b"\x00\x01a") == [b"a"]
