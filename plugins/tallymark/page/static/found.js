// The section "What did it detect?".

import { chosen, here } from "./address.js";
import { getPage } from "./api.js";
import { chart, color } from "./charts.js";
import { $, dagLink, element, fileLink, link, pages, table } from "./elements.js";
import { clock, count, duration, many, showTimesIn, time, WHOLE_MERCHANT } from "./text.js";

const ROWS = 25;
const COLORS = 4;

const COLUMNS = [
  ["Detected", (row) => time(row.detected_at), "short"],
  ["Pattern", (row) => `${row.pattern_id} ${row.action_type}`, "short"],
  ["Customer", customer, "key"],
  ["Merchant", (row) => link(here({ merchant: row.merchant, page: "" }, "merchants"), row.merchant), "key"],
  ["Evidence", (row) => row.evidence, "words"],
  ["Chunk", (row) => count(row.chunk_seq), "number"],
  ["File", file, "number"],
];

function customer(row) {
  if (!row.customer) return WHOLE_MERCHANT;
  return link(here({ customer: row.customer, page: "" }, "found"), row.customer);
}

function file(row) {
  if (!row.file) return "pending";
  return fileLink(row.file, `${row.file_number}`, `Download file ${row.file_number}`);
}

function showPatterns(patterns, pattern) {
  const select = document.querySelector("[data-part=found] [name=pattern]");
  if (select.options.length !== patterns.length + 1) {
    const options = patterns.map((row) =>
      element("option", { value: row.pattern_id }, `${row.pattern_id} ${row.action_type} (${count(row.detections)})`),
    );
    select.replaceChildren(element("option", { value: "" }, "all"), ...options);
    select.value = pattern;
  }
  const rules = patterns
    .filter((row) => row.rule)
    .map((row) =>
      element("div", {}, element("dt", {}, `${row.pattern_id} ${row.action_type}: `), element("dd", {}, row.rule)),
    );
  $("rules").replaceChildren(...rules);
}

function showTable(data, isFiltered) {
  const all = many(data.snapshot.detections ?? 0, "detection");
  const caption = isFiltered ? `${count(data.found)} of ${all}` : `${all}, newest first`;
  let empty = ["No detections yet. They appear after the first export of ", dagLink("detect_patterns"), "."];
  if (isFiltered) {
    empty = ["No detections match these filters."];
  } else if (data.snapshot.published_at) {
    const close = link("#merchants", "Choose a merchant");
    empty = ["No detections yet. ", close, " to see which customers are close to a threshold."];
  }
  table("found-table", caption, COLUMNS, data.rows, ...empty);
  pages("page", data.found, ROWS, "found");
}

// All points in time from the first to the last, including those without detections.
function moments(overTime, step) {
  const all = [];
  const last = overTime.at(-1)?.since;
  for (let moment = overTime[0]?.since; moment <= last;) {
    all.push(moment);
    moment = new Date(Date.parse(moment) + 1000 * step).toISOString();
  }
  return all;
}

function showOverTime(data) {
  const step = data.over_time[0]?.step_seconds ?? 60;
  const shown = moments(data.over_time, step);
  const detections = new Map(data.over_time.map((row) => [`${row.since} ${row.pattern_id}`, row.detections]));
  const datasets = data.patterns
    .map((row, index) => ({
      label: row.pattern_id,
      data: shown.map((moment) => detections.get(`${moment} ${row.pattern_id}`) ?? 0),
      backgroundColor: color(`series-${(index % COLORS) + 1}`),
    }))
    .filter((dataset) => dataset.data.some(Boolean));
  const each = shown.length ? `, each bar ${duration(step).replace(".0", "")}` : "";
  $("over-time-caption").textContent = `Detections over time${each}`;
  const counts = data.patterns.map((row) => `${row.pattern_id}: ${count(row.detections)}`).join(", ");
  const labels = shown.map((moment) => clock(moment, step));
  chart("over-time", `Detections over time. ${counts}`, "bar", labels, datasets, { stacked: true });
}

export async function showFound() {
  const filters = { pattern: chosen("pattern"), merchant: chosen("merchant"), customer: chosen("customer") };
  const data = await getPage("api/detections", "page", { ...filters, limit: ROWS });
  showTimesIn(data.snapshot.time_zone);
  showPatterns(data.patterns, filters.pattern);
  $("found-csv").href = `api/detections.csv?${new URLSearchParams(filters)}`;
  showTable(data, Object.values(filters).some(Boolean));
  showOverTime(data);
  return data;
}
