"""The oracle itself, against cases worked out by hand."""

import pytest
from support.oracle import Detection, Row, detect

OFF = {"child_min_transactions": 1000, "dei_min_female_customers": 1000, "upgrade_min_merchant_transactions": 1000}


def rows(**times: int) -> list[Row]:
    """So many transactions of 10 rupees for each customer."""
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


def test_a_customer_of_both_genders_counts_as_both():
    stream = [Row("A", "M", "F", "1"), Row("A", "M", "M", "1"), Row("B", "M", "M", "1")]
    assert detect([stream], thresholds=OFF | {"dei_min_female_customers": 0}) == [Detection(1, "PatId3", "M", "")]


@pytest.mark.parametrize(("minimum", "expected"), [(5, ["C"]), (6, [])])
def test_upgrade_needs_more_than_the_minimum(minimum, expected):
    limits = OFF | {"upgrade_min_merchant_transactions": minimum}
    found = detect([rows(A=1, B=2, C=3)], [("C", "M", "1")], limits)
    assert [detection.customer for detection in found] == expected


def test_upgrade_percent_exactly_met_and_ties():
    limits = OFF | {"upgrade_min_merchant_transactions": 0, "upgrade_top_percent": 50, "upgrade_bottom_percent": 50}
    importance = [("A", "M", "1"), ("B", "M", "2"), ("C", "M", "2"), ("D", "M", "9")]
    # 3 customers weigh less than D; B and C tie at one smaller: 100 * 1 <= 50 * 3.
    found = detect([rows(A=1, B=2, C=2, D=2)], importance, limits)
    # B, C and D tie at one with fewer transactions: 100 * 1 < 50 * 3, so nobody is in the top half.
    assert found == []
    found = detect([rows(A=1, B=2, C=2)], importance, limits)
    assert [detection.customer for detection in found] == ["B", "C"]


def test_upgrade_needs_two_customers_and_a_weight():
    limits = OFF | {"upgrade_min_merchant_transactions": 0}
    assert detect([rows(A=9)], [("A", "M", "1")], limits) == []
    assert detect([rows(A=9, B=1)], [("B", "M", "1")], limits) == []
    assert [d.customer for d in detect([rows(A=9, B=1)], [("A", "M", "1")], limits)] == ["A"]


@pytest.mark.parametrize(("aggregate", "expected"), [("sum", "B"), ("avg", "A"), ("min", "A"), ("max", "B")])
def test_weight_aggregates(aggregate, expected):
    limits = OFF | {"upgrade_min_merchant_transactions": 0, "upgrade_top_percent": 100}
    importance = [("A", "M", "0.6"), ("A", "M", "0.2"), ("A", "M", "0.1"), ("B", "M", "0.5")]
    found = detect([rows(A=1, B=1)], importance, limits | {"upgrade_weight_aggregate": aggregate})
    assert [detection.customer for detection in found] == [expected]


def test_a_detection_is_made_once_at_the_first_chunk():
    stream = [[Row("C", "M", "F", "1")] * 79, [Row("C", "M", "F", "1")], [Row("C", "M", "F", "999")] * 9]
    assert detect(stream) == [Detection(2, "PatId2", "M", "C")]


def test_a_customer_enters_the_top_percent_because_others_join():
    limits = OFF | {"upgrade_min_merchant_transactions": 0, "upgrade_top_percent": 25}
    stream = [rows(A=2, B=2, C=3, D=9), rows(E=1, F=1, G=1, H=1, I=1)]
    found = detect(stream, [("C", "M", "1")], limits)
    # At first 2 of 3 others have fewer (100 * 2 < 75 * 3), then 7 of 8 (100 * 7 >= 75 * 8).
    assert found == [Detection(2, "PatId1", "M", "C")]
