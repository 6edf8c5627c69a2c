"""The trigger form of the backtest_patterns DAG."""

from tallymark.on_airflow.threshold_form import changed, threshold_params
from tallymark.patterns import thresholds

CURRENT = {"child_min_transactions": 60, "upgrade_top_percent": "0.5"}


def test_form_has_every_threshold():
    params = threshold_params(CURRENT)
    assert list(params) == list(thresholds())
    child = params["child_min_transactions"]
    assert child.value == 60
    assert child.description == (
        "The customer must have at least this many transactions at the merchant. Current value: 60. Allowed: a number "
        "from 0 to 999999999999 with at most 6 decimals."
    )
    assert params["upgrade_top_percent"].value == 0.5
    assert params["upgrade_top_percent"].schema["maximum"] == 100
    aggregate = params["upgrade_weight_aggregate"]
    assert (aggregate.value, aggregate.schema["enum"]) == ("sum", ["sum", "avg", "min", "max"])


def test_only_changed_thresholds_are_tried():
    form = {name: param.value for name, param in threshold_params(CURRENT).items()}
    assert changed(form, CURRENT) == {}
    given = form | {"child_min_transactions": 80.0, "upgrade_weight_aggregate": "max", "first_chunk": "chunk_3"}
    assert changed(given, CURRENT) == {"child_min_transactions": "80", "upgrade_weight_aggregate": "max"}
