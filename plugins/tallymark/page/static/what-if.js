// The section "What if the thresholds were different?": the latest backtests, one opened backtest, or two compared.

import { chosen, here } from "./address.js";
import { get, getPage } from "./api.js";
import { $, dagLink, element, fileLink, link, pages, table } from "./elements.js";
import { count, many, time, WHOLE_MERCHANT } from "./text.js";

const ROWS = 25;
const MERCHANTS = 10;
const CHANGES = ["added", "lost", "earlier", "later", "unchanged"];
const OTHERS = { change: "", backtest_pattern: "", backtest_merchant: "", backtest_page: "" };

const list = (values) => values.join(", ");

const changedThresholds = (summary) =>
  Object.entries(summary.vars)
    .map(([name, value]) => `${name} ${value}`)
    .join(", ") || "none";

const title = (change) => change[0].toUpperCase() + change.slice(1);

const numbersOf = (cell) => CHANGES.map((change) => [title(change), (row) => count(cell(row)[change]), "number"]);

function listed(opened) {
  return [
    [
      "When",
      (row) => link(here({ ...OTHERS, backtest: row.name, compared: "" }, "backtest"), time(row.made_at)),
      "short",
    ],
    ["Changed thresholds", changedThresholds, "words"],
    ["Rows", (row) => count(row.rows), "number"],
    ...numbersOf((row) => row.totals),
    ["Compare", (row) => compareLink(row, opened), "short"],
  ];
}

function compareLink(row, opened) {
  if (row.name === opened) return "open";
  if (!opened) return "";
  return link(here({ ...OTHERS, compared: row.name }, "backtest"), "Compare", {
    "aria-label": `Compare with the backtest of ${time(row.made_at)}`,
  });
}

function showFiles(summary, folder) {
  const files = ["detections.csv", "detections.json", "summary.json"].map((file) =>
    fileLink(`${folder}${summary.name}/${file}`, file, `Download ${file}`),
  );
  $("backtest-files").replaceChildren(
    `${many(summary.rows, "row")} in ${many(summary.chunks, "chunk")}; took ${summary.seconds} s. `,
    `Detections are compared from ${summary.first_chunk} to ${summary.last_chunk}. Download: `,
    ...files.flatMap((file, index) => (index ? [", ", file] : [file])),
  );
}

function showThresholds([summary, other]) {
  const others = other && new Map(other.thresholds.map((row) => [row.name, row]));
  const differs = (row) =>
    list(row.stream) !== list(row.backtest) || (others && list(others.get(row.name).backtest) !== list(row.backtest));
  table(
    "backtest-thresholds",
    "Thresholds",
    [
      ["Threshold", (row) => (differs(row) ? element("strong", {}, row.name) : row.name), "short"],
      ["Stream", (row) => list(row.stream), "number"],
      ["Backtest", (row) => list(row.backtest), "number"],
      ...(others ? [["Compared with", (row) => list(others.get(row.name).backtest), "number"]] : []),
      ["Meaning", (row) => row.meaning, "words"],
    ],
    summary.thresholds,
    "",
  );
}

function showPatterns([summary, other]) {
  const others = other && new Map(other.patterns.map((row) => [row.pattern_id, row]));
  table(
    "backtest-patterns",
    "Detections by pattern",
    [
      ["Pattern", pattern, "short"],
      ["Stream", (row) => count(row.stream), "number"],
      ["Backtest", (row) => count(row.backtest), "number"],
      ...(others ? [["Compared with", (row) => count(others.get(row.pattern_id).backtest), "number"]] : []),
      ...numbersOf((row) => row),
    ],
    summary.patterns,
    "",
  );
}

function pattern(row) {
  const filter = { ...OTHERS, backtest_pattern: row.pattern_id };
  return link(here(filter, "backtest"), `${row.pattern_id} ${row.action_type}`);
}

function showMerchants(summary) {
  const changed = summary.merchants.filter((row) => row.unchanged < Math.max(row.stream, row.backtest) || row.lost);
  const caption =
    changed.length > MERCHANTS
      ? `${many(changed.length, "merchant")} with changes, the first ${MERCHANTS}`
      : "Merchants with changes";
  table(
    "backtest-merchants",
    caption,
    [
      ["Pattern", (row) => `${row.pattern_id} ${row.action_type}`, "short"],
      [
        "Merchant",
        (row) =>
          link(
            here({ ...OTHERS, backtest_pattern: row.pattern_id, backtest_merchant: row.merchant }, "backtest"),
            row.merchant,
          ),
        "key",
      ],
      ["Stream", (row) => count(row.stream), "number"],
      ["Backtest", (row) => count(row.backtest), "number"],
      ...numbersOf((row) => row),
    ],
    changed.slice(0, MERCHANTS),
    "No merchants with changes.",
  );
}

const side = (name) => (row) =>
  row[`${name}_chunk_seq`] ? `Chunk ${count(row[`${name}_chunk_seq`])}: ${row[`${name}_evidence`]}` : "not detected";

function showDetections(data, other) {
  table(
    "backtest-detections",
    other ? "Detections that differ" : "Detections",
    [
      ["Change", (row) => row.change, "short"],
      ["Pattern", (row) => `${row.pattern_id} ${row.action_type}`, "short"],
      ["Customer", (row) => row.customer || WHOLE_MERCHANT, "key"],
      ["Merchant", (row) => row.merchant, "key"],
      ["Stream", side("stream"), "words"],
      ["Backtest", side("backtest"), "words"],
      ...(other ? [["Compared with", side("other"), "words"]] : []),
    ],
    data.rows,
    other ? "No differences: both made the same detections at the same chunks." : "No detections match this filter.",
  );
  pages("backtest_page", data.found, ROWS, "backtest");
}

export async function showWhatIf() {
  const opened = chosen("backtest");
  const latest = await get("api/backtests");
  const caption = latest.found ? `${many(latest.found, "backtest")}, newest first` : "";
  const trigger = dagLink("backtest_patterns", "Trigger backtest_patterns");
  const none = ["No backtests yet. ", trigger, " to start one; its form shows every threshold."];
  table("backtests-table", caption, listed(opened), latest.rows, ...none);
  $("backtest").hidden = !opened;
  if (!opened) return;
  const filters = {
    other: chosen("compared"),
    change: chosen("change"),
    pattern: chosen("backtest_pattern"),
    merchant: chosen("backtest_merchant"),
  };
  const data = await getPage(`api/backtests/${encodeURIComponent(opened)}`, "backtest_page", {
    ...filters,
    limit: ROWS,
  });
  const [summary, other] = data.backtests;
  $("backtest-title").textContent =
    `Backtest of ${time(summary.made_at)}${other ? `, compared with ${time(other.made_at)}` : ""}`;
  showFiles(summary, latest.folder);
  showThresholds(data.backtests);
  showPatterns(data.backtests);
  showMerchants(summary);
  showDetections(data, other);
}
