"""The three patterns in plain Python, by brute force over all history, at the end of every chunk.

Independent of the product: no SQL, no incremental state, no binary floating point. It is slow, and simple enough to
check by reading.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

DEFAULTS = {
    "upgrade_min_merchant_transactions": 50000,
    "upgrade_top_percent": 1,
    "upgrade_bottom_percent": 1,
    "upgrade_weight_aggregate": "sum",
    "child_max_average_amount": 23,
    "child_min_transactions": 80,
    "dei_min_female_customers": 100,
}


class Row(NamedTuple):
    """One accepted transaction, with the amount as text to keep it exact."""

    customer: str
    merchant: str
    gender: str
    amount: str


class Detection(NamedTuple):
    """A detection. Detections sort in the order of their ids."""

    chunk_seq: int
    pattern_id: str
    merchant: str
    customer: str


@dataclass
class Merchant:
    """History of one merchant: the amounts of each customer, and the customers of each gender."""

    amounts: dict[str, list[Decimal]]
    female: set[str]
    male: set[str]


def weights(importance: Iterable[tuple[str, str, str]], aggregate: str) -> dict[tuple[str, str], Fraction]:
    """Return the weight of each (customer, merchant).

    Args:
        importance: rows of customer, merchant and weight, as text.
    """
    rows = defaultdict(list)
    for customer, merchant, weight in importance:
        rows[customer, merchant].append(Fraction(weight))
    aggregates = {"sum": sum, "min": min, "max": max, "avg": lambda values: sum(values) / len(values)}
    return {pair: aggregates[aggregate](values) for pair, values in rows.items()}


def detect(
    chunks: Sequence[Iterable[Row]],
    importance: Iterable[tuple[str, str, str]] = (),
    thresholds: Mapping[str, object] | None = None,
) -> list[Detection]:
    """Return all detections of a stream, in the order of their ids."""
    values = DEFAULTS | dict(thresholds or {})
    aggregate = values.pop("upgrade_weight_aggregate")
    weight_of = weights(importance, aggregate)
    threshold = {name: Fraction(str(value)) for name, value in values.items()}
    merchants: dict[str, Merchant] = {}
    made: set[tuple[str, str, str]] = set()
    detections = []
    for chunk_seq, rows in enumerate(chunks, start=1):
        touched = set()
        for row in rows:
            merchant = merchants.setdefault(row.merchant, Merchant(defaultdict(list), set(), set()))
            merchant.amounts[row.customer].append(Decimal(row.amount))
            merchant.female |= {row.customer} if row.gender.strip().upper() == "F" else set()
            merchant.male |= {row.customer} if row.gender.strip().upper() == "M" else set()
            touched.add(row.merchant)
        for name in touched:
            found = [("PatId1", customer) for customer in upgrades(name, merchants[name], weight_of, threshold)]
            found += [("PatId2", customer) for customer in children(merchants[name], threshold)]
            found += [("PatId3", "")] * needs_dei(merchants[name], threshold)
            for pattern_id, customer in found:
                if (pattern_id, customer, name) not in made:
                    made.add((pattern_id, customer, name))
                    detections.append(Detection(chunk_seq, pattern_id, name, customer))
    return sorted(detections)


def upgrades(
    name: str, merchant: Merchant, weight_of: Mapping[tuple[str, str], Fraction], threshold: Mapping[str, Fraction]
) -> list[str]:
    """Return the customers in the top percent by number of transactions and in the bottom percent by weight."""
    count = {customer: len(amounts) for customer, amounts in merchant.amounts.items()}
    if sum(count.values()) <= threshold["upgrade_min_merchant_transactions"] or len(count) < 2:
        return []
    weight = {customer: weight_of[customer, name] for customer in count if (customer, name) in weight_of}
    fewer, smaller = ranks(count), ranks(weight)
    top, bottom = threshold["upgrade_top_percent"], threshold["upgrade_bottom_percent"]
    return [
        customer
        for customer in weight
        if 100 * fewer[count[customer]] >= (100 - top) * (len(count) - 1)
        and 100 * smaller[weight[customer]] <= bottom * (len(weight) - 1)
    ]


def ranks(value_of: Mapping[str, object]) -> dict[object, int]:
    """Return, for each value, the number of customers with a smaller value."""
    times = Counter(value_of.values())
    below, result = 0, {}
    for value in sorted(times):
        result[value] = below
        below += times[value]
    return result


def children(merchant: Merchant, threshold: Mapping[str, Fraction]) -> list[str]:
    """Return the customers with many transactions and a low average amount."""
    return [
        customer
        for customer, amounts in merchant.amounts.items()
        if len(amounts) >= threshold["child_min_transactions"]
        and sum(map(Fraction, amounts)) / len(amounts) < threshold["child_max_average_amount"]
    ]


def needs_dei(merchant: Merchant, threshold: Mapping[str, Fraction]) -> bool:
    """Return whether the merchant has enough female customers, and more male than female ones."""
    return threshold["dei_min_female_customers"] < len(merchant.female) < len(merchant.male)
