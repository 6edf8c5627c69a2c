"""How long does a backlog of 60 chunks take?

Compares one micro-batch with one plain DuckDB pass over the same files. The pass has no state and no ledger, does not
validate rows, and evaluates the patterns only once. Both run with a known customer importance, then with a new one.
"""

from pathlib import Path

from benchmarks import common, plain

ANSWER = "It takes {backlog}, {backlog_ratio} as long as one plain DuckDB pass over the same files."
table = common.target_table(
    ("60 chunks", "backlog"),
    ("one plain DuckDB pass", "backlog_plain_pass"),
    ("60 chunks compared with the pass", "backlog_ratio", 10),
    ("the same with a new customer importance", "backlog_with_importance_ratio", 5),
)


def measure(data: Path, quick: bool) -> dict:
    common.warm_up(data)
    seconds, ratios = zip(*(_turn(data) for _ in range(3 if quick else 5)), strict=True)
    return {"figures": common.medians(seconds, "s") | common.medians(ratios, "times")}


def _turn(data: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Return the seconds and ratios of one turn."""
    root = common.fresh("backlog")
    files = [root / chunk.key for chunk in common.lay_out(root, data)]
    common.micro_batch(root, [])  # loads the customer importance
    seconds = common.micro_batch(root, name="backlog")
    with plain.connect() as database:
        weights = common.timed(plain.read_weights, database, root / common.IMPORTANCE)
        seconds["backlog_plain_pass"] = plain_pass = common.timed(plain.one_pass, database, files)
    root = common.fresh("backlog")
    common.lay_out(root, data)
    with_importance = common.micro_batch(root)["seconds"] / (plain_pass + weights)
    ratios = {"backlog_ratio": seconds["backlog"] / plain_pass, "backlog_with_importance_ratio": with_importance}
    return seconds, ratios
