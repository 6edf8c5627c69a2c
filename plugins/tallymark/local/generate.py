"""Generate transactions that resemble BankSim, for users without their own data.

As in BankSim (Lopez-Rojas and Axelsson, 2014), one merchant takes a large part of the small payments, a few customers
pay often and many seldom, and text is in single quotes.
"""

import gzip
import random
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

TRANSACTIONS_HEADER = "step,customer,age,gender,zipcodeOri,merchant,zipMerchant,category,amount,fraud"
IMPORTANCE_HEADER = "Source,Target,Weight,typeTrans,fraud"
CUSTOMERS = 1500
TRANSACTIONS_A_STEP = 2000


@dataclass(frozen=True)
class _Merchant:
    """A merchant.

    Attributes:
        share: of all transactions.
        price: average amount, in rupees.
        male_share: share of transactions by men.
    """

    name: str
    category: str
    share: float
    price: float
    male_share: float


@dataclass(frozen=True)
class _Customer:
    """A customer.

    Attributes:
        activity: relative number of transactions.
        thrift: multiplier of the amounts.
        is_commuter: whether the customer pays small amounts often.
    """

    name: str
    age: str
    gender: str
    activity: float
    thrift: float
    is_commuter: bool


def generate(folder: Path, rows: int = 200_000, seed: int = 1) -> None:
    """Write ``transactions.csv.gz`` and ``customer_importance.csv.gz``. The same arguments give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(seed)
    merchants = _merchants(chance)
    customers = _customers(chance)
    transactions = [TRANSACTIONS_HEADER]
    importance = [IMPORTANCE_HEADER]
    by_gender = {merchant.name: _weights(merchant, customers) for merchant in merchants}
    merchant_weights = list(accumulate(merchant.share for merchant in merchants))
    for row in range(rows):
        merchant = chance.choices(merchants, cum_weights=merchant_weights)[0]
        customer = chance.choices(customers, cum_weights=by_gender[merchant.name])[0]
        amount = max(0.0, chance.gauss(merchant.price, merchant.price / 3) * customer.thrift)
        transactions.append(
            f"{row // TRANSACTIONS_A_STEP},'{customer.name}','{customer.age}','{customer.gender}','28007',"
            f"'{merchant.name}','28007','{merchant.category}',{amount:.2f},0"
        )
        if chance.random() < 0.4:
            weight = amount * (0.001 if customer.is_commuter else 1)
            importance.append(f"'{customer.name}','{merchant.name}',{weight:.4f},'{merchant.category}',0")
    _write(folder / "transactions.csv.gz", transactions)
    _write(folder / "customer_importance.csv.gz", importance)


def _merchants(chance: random.Random) -> list[_Merchant]:
    categories = ("es_food", "es_health", "es_fashion", "es_home", "es_hotelservices", "es_sportsandtoys")
    large = _Merchant("M348934600", "es_transportation", 0.38, 25.0, 0.5)
    small = [
        _Merchant(
            f"M{chance.randrange(10**8, 2 * 10**9)}",
            chance.choice(categories),
            0.62 / 24 * chance.uniform(0.3, 1.7),
            chance.uniform(20, 200),
            chance.uniform(0.35, 0.65),
        )
        for _ in range(24)
    ]
    return [large, *small]


def _customers(chance: random.Random) -> list[_Customer]:
    customers = []
    for number in range(CUSTOMERS):
        is_commuter = number < CUSTOMERS // 150
        customers.append(
            _Customer(
                name=f"C{chance.randrange(10**7, 2 * 10**9)}",
                age=str(chance.randrange(7)),
                gender=chance.choices("FMEU", weights=(49, 49, 1.5, 0.5))[0],
                activity=chance.uniform(4, 12) if is_commuter else chance.paretovariate(2.5),
                thrift=chance.uniform(0.75, 1.35),
                is_commuter=is_commuter,
            )
        )
    return customers


def _weights(merchant: _Merchant, customers: Iterable[_Customer]) -> list[float]:
    """Return cumulative weights: how likely each customer makes the merchant's next transaction."""
    share = {"M": merchant.male_share, "F": 1 - merchant.male_share}
    return list(accumulate(customer.activity * share.get(customer.gender, 0.5) for customer in customers))


def _write(path: Path, lines: list[str]) -> None:
    with path.open("wb") as file, gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as packed:
        packed.write("".join(f"{line}\n" for line in lines).encode())
