"""How long does a backlog of 60 chunks take?

One micro-batch, and one plain DuckDB pass over the same files, which keeps no state and no ledger, does not validate,
and evaluates the patterns only once. First with a known customer importance on both sides, then with a new one.
"""

from pathlib import Path

from benchmarks import common, plain

ANSWER = "{backlog}, {backlog_ratio} one plain DuckDB pass over the same files."
table = common.target_table(
    ("60 chunks", "backlog"),
    ("one plain DuckDB pass", "backlog_plain_pass"),
    ("60 chunks over the pass", "backlog_ratio", 10),
    ("with a new customer importance on both sides", "backlog_with_importance_ratio", 5),
)


def measure(data: Path, quick: bool) -> dict:
    common.warm_up(data)
    seconds, ratios = zip(*(_turn(data) for _ in range(3 if quick else 5)), strict=True)
    return {"figures": common.medians(seconds, "s") | common.medians(ratios, "times")}


def _turn(data: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds and ratios of one turn, side by side."""
    root = common.fresh("backlog")
    files = [root / chunk.key for chunk in common.lay_out(root, data)]
    common.micro_batch(root, [])  # takes the customer importance
    seconds = common.micro_batch(root, name="backlog")
    with plain.connect() as database:
        weights = common.timed(plain.read_weights, database, root / common.IMPORTANCE)
        seconds["backlog_plain_pass"] = plain_pass = common.timed(plain.one_pass, database, files)
    root = common.fresh("backlog")
    common.lay_out(root, data)
    with_importance = common.micro_batch(root)["seconds"] / (plain_pass + weights)
    ratios = {"backlog_ratio": seconds["backlog"] / plain_pass, "backlog_with_importance_ratio": with_importance}
    return seconds, ratios
