from decimal import Decimal

from ledger import Invoice, Line, cents


def test_half_a_cent_goes_up():
    assert cents("2.675") == 268
    assert cents("0.335") == 34
    assert cents("1.005") == 101


def test_decimals_and_ints_are_amounts():
    assert cents(Decimal("10.015")) == 1002
    assert cents(7) == 700


def test_lines_are_rounded_one_by_one():
    invoice = Invoice("A")
    for _ in range(3):
        invoice.add("part", "0.335")
    assert invoice.total() == 102


def test_a_quantity_is_rounded_with_its_line():
    assert Line("part", Decimal("0.335"), 3).charged() == 101


def test_refunds_mirror_charges():
    for price in ("2.675", "0.335", "1.005", "9.99"):
        assert Line("x", Decimal(price), -1).charged() == -Line("x", Decimal(price), 1).charged()
    assert Invoice("A").add("a", "0.335").add("a", "0.335", -1).total() == 0


def test_whole_cents_are_kept():
    assert [cents(f"{i // 100}.{i % 100:02d}") for i in range(0, 2000, 7)] == list(range(0, 2000, 7))


def test_an_empty_invoice_is_nothing():
    assert Invoice("A").total() == 0


def test_large_amounts_are_exact():
    assert cents("90071992547409.935") == 9007199254740994
