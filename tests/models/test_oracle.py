"""Checks the oracle with cases calculated by hand."""

import pytest
from support.oracle import Detection, Row, detect

OFF = {"child_min_transactions": 1000, "dei_min_female_customers": 1000, "upgrade_min_merchant_transactions": 1000}


def rows(**times: int) -> list[Row]:
    """Transactions of 10 rupees at one merchant; each argument is a customer and their number of transactions."""
    return [Row(customer, "M", "F", "10") for customer, n in times.items() for _ in range(n)]


@pytest.mark.parametrize(
    ("n", "amount", "last", "expected"),
    [
        (80, "22.9999", "22.9999", True),
        (80, "23", "23", False),
        (80, "23", "22.9999", True),
        (79, "1", "1", False),
        (81, "1", "1", True),
    ],
)
def test_child(n, amount, last, expected):
    stream = [Row("C", "M", "F", amount)] * (n - 1) + [Row("C", "M", "F", last)]
    assert detect([stream]) == [Detection(1, "PatId2", "M", "C")] * expected


@pytest.mark.parametrize(("female", "male", "expected"), [(100, 102, 0), (101, 101, 0), (101, 102, 1), (102, 101, 0)])
def test_dei(female, male, expected):
    stream = [Row(f"F{i}", "M", " f ", "1") for i in range(female)] + [Row(f"M{i}", "M", "M", "1") for i in range(male)]
    stream += [Row("E1", "M", "E", "1"), Row("U1", "M", "", "1")]
    assert detect([stream]) == [Detection(1, "PatId3", "M", "")] * expected


def test_customer_with_both_genders_counts_as_both():
    stream = [Row("A", "M", "F", "1"), Row("A", "M", "M", "1"), Row("B", "M", "M", "1")]
    assert detect([stream], thresholds=OFF | {"dei_min_female_customers": 0}) == [Detection(1, "PatId3", "M", "")]


@pytest.mark.parametrize(("minimum", "expected"), [(5, ["C"]), (6, [])])
def test_upgrade_needs_more_than_the_minimum(minimum, expected):
    thresholds = OFF | {"upgrade_min_merchant_transactions": minimum}
    found = detect([rows(A=1, B=2, C=3)], [("C", "M", "1")], thresholds)
    assert [detection.customer for detection in found] == expected


def test_upgrade_exactly_at_its_percentages_and_ties():
    thresholds = OFF | {"upgrade_min_merchant_transactions": 0, "upgrade_top_percent": 50, "upgrade_bottom_percent": 50}
    importance = [("A", "M", "1"), ("B", "M", "2"), ("C", "M", "2"), ("D", "M", "9")]
    # Weights: B and C are tied, with one smaller weight, so both are in the bottom half: 100 * 1 <= 50 * 3. D is not.
    found = detect([rows(A=1, B=2, C=2, D=2)], importance, thresholds)
    # Transactions: B, C and D are tied, with one customer below them, so none is in the top half: 100 * 1 < 50 * 3.
    assert found == []
    found = detect([rows(A=1, B=2, C=2)], importance, thresholds)
    assert [detection.customer for detection in found] == ["B", "C"]


def test_upgrade_needs_two_customers_and_a_weight():
    thresholds = OFF | {"upgrade_min_merchant_transactions": 0}
    assert detect([rows(A=9)], [("A", "M", "1")], thresholds) == []
    assert detect([rows(A=9, B=1)], [("B", "M", "1")], thresholds) == []
    assert [d.customer for d in detect([rows(A=9, B=1)], [("A", "M", "1")], thresholds)] == ["A"]


@pytest.mark.parametrize(("aggregate", "expected"), [("sum", "B"), ("avg", "A"), ("min", "A"), ("max", "B")])
def test_weight_aggregates(aggregate, expected):
    thresholds = OFF | {"upgrade_min_merchant_transactions": 0, "upgrade_top_percent": 100}
    importance = [("A", "M", "0.6"), ("A", "M", "0.2"), ("A", "M", "0.1"), ("B", "M", "0.5")]
    found = detect([rows(A=1, B=1)], importance, thresholds | {"upgrade_weight_aggregate": aggregate})
    assert [detection.customer for detection in found] == [expected]


def test_detection_is_made_once_at_the_first_chunk():
    stream = [[Row("C", "M", "F", "1")] * 79, [Row("C", "M", "F", "1")], [Row("C", "M", "F", "999")] * 9]
    assert detect(stream) == [Detection(2, "PatId2", "M", "C")]


def test_customer_enters_top_percent_because_others_join():
    thresholds = OFF | {"upgrade_min_merchant_transactions": 0, "upgrade_top_percent": 25}
    stream = [rows(A=2, B=2, C=3, D=9), rows(E=1, F=1, G=1, H=1, I=1)]
    found = detect(stream, [("C", "M", "1")], thresholds)
    # First, 2 of 3 other customers have fewer transactions (100 * 2 < 75 * 3), then 7 of 8 (100 * 7 >= 75 * 8).
    assert found == [Detection(2, "PatId1", "M", "C")]
