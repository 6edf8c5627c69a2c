"use strict";
// The page Detections. Whatever comes from files is set as text, never as HTML. The address holds every filter.

const REFRESH_MILLISECONDS = 5000;
const NOW = { wait_for_chunk: "waiting for a chunk", load: "loading", build: "building", export: "exporting" };
const address = new URLSearchParams(location.search);
const chosen = (name) => address.get(name) ?? "";
const $ = (id) => document.getElementById(id);
const charts = {};
let zone;

// Airflow sets the class on its own document, around this one; alone, what it stored or the system decides.
function isDark() {
  try {
    if (parent !== window) return parent.document.documentElement.classList.contains("dark");
    const stored = localStorage.getItem("theme");
    if (stored === "dark" || stored === "light") return stored === "dark";
  } catch { /* another origin is around us */ }
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

function applyTheme() {
  const dark = isDark();
  if (document.documentElement.classList.contains("dark") === dark) return;
  document.documentElement.classList.toggle("dark", dark);
  for (const [id, chart] of Object.entries(charts)) { chart.destroy(); delete charts[id]; }
  if (document.body) refresh();
}

function followTheme() {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", applyTheme);
  addEventListener("storage", applyTheme);
  try {
    const around = parent.document.documentElement;
    if (parent !== window) new MutationObserver(applyTheme).observe(around, { attributeFilter: ["class"] });
  } catch { /* another origin is around us */ }
}

// --- text

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const count = (value) => (value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en-US"));
const many = (value, word) => `${count(value)} ${word}${value === 1 ? "" : "s"}`;

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 90) return `${seconds.toFixed(1)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${(seconds / 3600).toFixed(1)} h` : `${Math.round(seconds / 86400)} days`;
}

function time(value) {
  if (!value) return "–";
  const form = { dateStyle: "medium", timeStyle: "medium", timeZone: zone || "UTC" };
  return new Date(value).toLocaleString("en-GB", form);
}

const clock = (value, step) => new Date(value).toLocaleString("en-GB", step < 86400
  ? { day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit", second: step < 60 ? "2-digit" : undefined, timeZone: zone || "UTC" }
  : { day: "2-digit", month: "short", year: "numeric", timeZone: zone || "UTC" });

// --- elements

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const link = (href, text, attributes = {}) => element("a", { href, ...attributes }, text);
const fileLink = (key, text, label) => link(`files/${key.split("/").map(encodeURIComponent).join("/")}`, text, { download: "", "aria-label": label });

function here(changes, part) {
  const query = new URLSearchParams(address);
  for (const [name, value] of Object.entries(changes)) value === "" ? query.delete(name) : query.set(name, value);
  return `?${query}${part ? `#${part}` : ""}`;
}

// columns: [title, row => text or element, class]
function table(id, caption, columns, rows, empty) {
  const head = element("tr", {}, ...columns.map(([title, , kind]) => element("th", { scope: "col", class: kind ?? "" }, title)));
  const body = rows.map((row) => element("tr", {}, ...columns.map(([title, cell, kind]) => element("td", { class: kind ?? "", "data-title": title }, cell(row) ?? "–"))));
  if (!rows.length) body.push(element("tr", {}, element("td", { colspan: columns.length, class: "muted" }, empty)));
  $(id).replaceChildren(element("caption", {}, caption), element("thead", {}, head), element("tbody", {}, ...body));
}

function numbers(id, pairs) {
  $(id).replaceChildren(...pairs.map(([name, value, note]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value, note ? element("small", {}, note) : null))));
}

function pages(name, found, limit, part) {
  const at = Math.max(1, Number(chosen(name)) || 1), last = Math.max(1, Math.ceil(found / limit));
  const to = (page, text) => link(here({ [name]: page === 1 ? "" : page }, part), text, { class: "button" });
  document.querySelector(`[data-pages=${name}]`).replaceChildren(...[
    at > 1 ? to(1, "First") : null, at > 1 ? to(at - 1, "Previous") : null,
    element("span", {}, `Page ${count(at)} of ${count(last)}`),
    at < last ? to(at + 1, "Next") : null, at < last ? to(last, "Last") : null,
  ].filter(Boolean));
}

function chart(id, label, type, labels, datasets, options = {}) {
  $(id).setAttribute("aria-label", label);
  const grid = { grid: { color: color("line") }, ticks: { color: color("muted"), maxTicksLimit: 8, maxRotation: 0, autoSkipPadding: 16 } };
  if (charts[id]) {
    charts[id].data = { labels, datasets };
    charts[id].update("none");
    return;
  }
  charts[id] = new Chart($(id), {
    type,
    data: { labels, datasets },
    options: {
      animation: false, maintainAspectRatio: false, datasets: { bar: { maxBarThickness: 48 } },
      scales: { x: { ...grid, stacked: options.stacked }, y: { ...grid, stacked: options.stacked, beginAtZero: true } },
      plugins: { legend: { display: datasets.length > 1, labels: { color: color("text"), boxWidth: 12 } } },
    },
  });
}

// --- the four parts

async function get(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "");
  const answer = await fetch(`${path}?${new URLSearchParams(given)}`, { cache: "no-store" });
  if (answer.status === 401) throw new Error("You are no longer logged in to Airflow. Reload the page.");
  if (!answer.ok) throw new Error(`${path} answered ${answer.status}`);
  return answer.json();
}

// A page of a table; the first one, if the one in the address is behind the end.
async function getPage(path, name, parameters) {
  const data = await get(path, { ...parameters, page: chosen(name) });
  if (data.rows.length || !chosen(name)) return data;
  address.delete(name);
  return get(path, parameters);
}

function runLink(run, task) {
  return `../dags/detect_patterns/runs/${encodeURIComponent(run.run_id)}${task ? `/tasks/${task}` : ""}`;
}

const taskThatIs = (state, run) => Object.keys(run?.tasks ?? {}).find((task) => run.tasks[task] === state);

function verdict(data) {
  const { runs, limits } = data, ended = runs.ended;
  const failed = ended?.state === "failed" && taskThatIs("failed", ended);
  if (runs.is_paused) return ["bad", "Paused: the DAG detect_patterns is switched off in Airflow. Chunks wait until it is switched on."];
  if (data.listing_problem) return ["bad", data.listing_problem];
  if (failed === "build") return ["bad", "Held back: a sanity test or a model failed, so nothing is exported until it passes. ", link(runLink(ended, "build"), "Read which one", { target: "_top" })];
  if (ended?.state === "failed") return ["bad", `The last run failed${failed ? ` in ${failed}` : ""}. The next one goes on where it stopped. `, link(runLink(ended, failed), "Read why", { target: "_top" })];
  const retried = taskThatIs("up_for_retry", runs.running);
  if (retried) return ["warn", `${retried} failed and is tried again in a moment; nothing is exported until it passes. `, link(runLink(runs.running, retried), "Read why", { target: "_top" })];
  if (data.waiting && data.oldest_waits_seconds > limits.lag_seconds) return ["bad", `Fallen behind: the oldest of ${many(data.waiting, "unreadable chunk")} landed ${duration(data.oldest_waits_seconds)} ago.`];
  if (data.landed === 0) return ["warn", "Nothing has landed yet. Chunks are looked for in the bucket; the first one shows here a few seconds after it lands."];
  if (data.nothing_landed_for_seconds > limits.standstill_seconds && !data.waiting) return ["warn", `The stream stands still: the last chunk landed ${duration(data.nothing_landed_for_seconds)} ago, and all of them are done.`];
  if (data.p95_seconds > limits.lag_seconds) return ["warn", `Slow: one chunk in twenty took more than ${duration(data.p95_seconds)} from landing to file.`];
  if (data.listing_is_cut && !data.waiting) return ["warn", "The bucket holds more chunks than this page lists, so what waits is not known. Time from landing to file is as below."];
  return ["good", data.waiting ? `Keeping up: being worked on, ${many(data.waiting, "chunk")}.` : "Keeping up: every chunk that landed is done."];
}

async function showKeepingUp() {
  const data = await get("api/keeping-up");
  const [kind, ...text] = verdict(data);
  if ($("sign").textContent !== text.map((part) => part.textContent ?? part).join("")) $("sign").replaceChildren(...text);
  $("sign").className = `sign ${kind}`;
  $("models").hidden = !data.has_models;
  const { running, ended } = data.runs;
  numbers("numbers", [
    ["Chunks landed", data.listing_is_cut ? `${count(Math.max(data.landed, data.loaded ?? 0))} or more` : count(data.landed)],
    ["Loaded", count(data.loaded ?? 0), data.rejected ? `${count(data.rejected)} rejected whole` : ""],
    ["Waiting", data.listing_is_cut ? `${count(data.waiting)} or more` : count(data.waiting), data.waiting ? `the oldest for ${duration(data.oldest_waits_seconds)}` : ""],
    ["Rows a minute", count(data.rows_a_minute)],
    ["Landing to file, last", duration(data.last_seconds)],
    ["Median of 100 chunks", duration(data.p50_seconds)],
    ["95 of 100 within", duration(data.p95_seconds)],
    ["Last run", ended ? link(runLink(ended), ended.state, { target: "_top" }) : "–", ended ? time(ended.ended_at) : "none has ended yet"],
    ["Now", running ? NOW[taskThatIs("running", running)] ?? (taskThatIs("up_for_retry", running) ? "trying again" : "starting") : "idle"],
    ["Last export", data.last_export_at ? time(data.last_export_at) : "–"],
  ]);
  const points = data.latency;
  chart("latency", `Seconds from landing to file of the last ${points.length} chunks: median ${duration(data.p50_seconds)}, 95 of 100 within ${duration(data.p95_seconds)}.`,
    "line", points.map((point) => point.chunk_seq),
    [{ label: "seconds", data: points.map((point) => point.seconds), borderColor: color("series-1"), backgroundColor: color("series-1"), pointRadius: points.length > 60 ? 0 : 2, borderWidth: 2 }]);
  return data;
}

async function showFound() {
  const filters = { pattern: chosen("pattern"), merchant: chosen("merchant"), customer: chosen("customer") };
  const limit = 25;
  const data = await getPage("api/detections", "page", { ...filters, limit });
  zone = data.snapshot.time_zone;
  const select = document.querySelector("[data-part=found] [name=pattern]");
  if (select.options.length !== data.patterns.length + 1) {
    select.replaceChildren(element("option", { value: "" }, "all"), ...data.patterns.map((row) =>
      element("option", { value: row.pattern_id }, `${row.pattern_id} ${row.action_type} (${count(row.detections)})`)));
    select.value = filters.pattern;
  }
  $("rules").replaceChildren(...data.patterns.filter((row) => row.rule).map((row) =>
    element("div", {}, element("dt", {}, `${row.pattern_id} ${row.action_type}: `), element("dd", {}, row.rule))));
  $("found-csv").href = `api/detections.csv?${new URLSearchParams(filters)}`;
  const filtered = Object.values(filters).some(Boolean);
  const total = data.snapshot.detections ?? 0;
  table("found-table", filtered ? `${count(data.found)} of ${many(total, "detection")}` : `${many(total, "detection")}, newest first`, [
    ["Detected", (row) => time(row.detected_at), "short"],
    ["Pattern", (row) => `${row.pattern_id} ${row.action_type}`, "short"],
    ["Customer", (row) => (row.customer ? link(here({ customer: row.customer, page: "" }, "found"), row.customer) : "the merchant itself"), "key"],
    ["Merchant", (row) => link(here({ merchant: row.merchant, page: "" }, "merchants"), row.merchant), "key"],
    ["Evidence", (row) => row.evidence, "words"],
    ["Chunk", (row) => count(row.chunk_seq), "number"],
    ["File", (row) => (row.file ? link(`files/${row.file}`, `${row.file_number}`, { download: "", "aria-label": `Download file ${row.file_number}` }) : "waits for more"), "number"],
  ], data.rows, filtered ? "No detection matches these filters." : data.snapshot.published_at
    ? "Nothing was detected yet. That is normal until customers reach the thresholds; see who is nearest under each merchant below."
    : "There are no results yet. They appear with the first run of the DAG detect_patterns that exports.");
  pages("page", data.found, limit, "found");

  const step = data.over_time[0]?.step_seconds ?? 60, last = data.over_time.at(-1)?.since, moments = [];
  for (let moment = data.over_time[0]?.since; moment <= last; moment = new Date(Date.parse(moment) + 1000 * step).toISOString()) moments.push(moment);
  const patterns = data.patterns.map((row) => row.pattern_id).filter((id) => data.over_time.some((row) => row.pattern_id === id));
  const at = new Map(data.over_time.map((row) => [`${row.since} ${row.pattern_id}`, row.detections]));
  $("over-time-caption").textContent = `Detections over time${moments.length ? `, each bar ${duration(step).replace(".0", "")}` : ""}`;
  chart("over-time", `Detections over time. ${data.patterns.map((row) => `${row.pattern_id}: ${count(row.detections)}`).join(", ") || "None yet."}`,
    "bar", moments.map((moment) => clock(moment, step)),
    patterns.map((id) => ({ label: id, data: moments.map((moment) => at.get(`${moment} ${id}`) ?? 0), backgroundColor: color(`series-${(data.patterns.findIndex((row) => row.pattern_id === id) % 4) + 1}`) })), { stacked: true });
  return data;
}

async function showMerchants() {
  const merchant = chosen("merchant"), limit = 10;
  const data = await getPage("api/merchants", "merchants_page", { merchant, limit });
  const made = (row) => Object.entries(row.detections ?? {}).map(([pattern, number]) => `${pattern}: ${count(number)}`).join(", ") || "none";
  table("merchants-table", merchant ? `Merchants that match: ${count(data.found)}` : `${many(data.found, "merchant")}, those with most transactions first`, [
    ["Merchant", (row) => link(here({ merchant: row.merchant, page: "", merchants_page: "" }, "merchants"), row.merchant), "key"],
    ["Transactions", (row) => count(row.transactions), "number"],
    ["Customers", (row) => count(row.customers), "number"],
    ["Female", (row) => count(row.female_customers), "number"],
    ["Male", (row) => count(row.male_customers), "number"],
    ["Detections", made, "words"],
  ], data.rows, merchant ? "No merchant matches." : "No merchant has had a transaction yet.");
  pages("merchants_page", data.found, limit, "merchants");
  const one = data.rows.find((row) => row.merchant === merchant);
  if (!one) {
    $("merchant").replaceChildren(element("p", { class: "muted" }, data.rows.length ? "Choose a merchant to see who is near to a detection there." : ""));
    return data;
  }
  $("merchant").replaceChildren(
    element("h3", {}, one.merchant),
    element("p", {}, `Detections: ${made(one)}. `, link(here({ merchant: one.merchant, page: "" }, "found"), "Show them")),
    element("h3", {}, "Nearest to a detection"),
    data.nearest.length
      ? element("div", { class: "table", role: "region", "aria-label": "Nearest to a detection", tabindex: "0" }, element("table", { id: "nearest-table", class: "cards" }))
      : element("p", { class: "muted" }, "No customers close to a threshold."));
  if (data.nearest.length) {
    table("nearest-table", `Nearest at ${one.merchant}`, [
      ["Pattern", (row) => `${row.pattern_id} ${row.action_type}`, "short"],
      ["Customer", (row) => row.customer || "the merchant itself", "key"],
      ["Evidence", (row) => row.evidence, "words"],
      ["As of chunk", (row) => count(row.chunk_seq), "number"],
    ], data.nearest, "");
  }
  return data;
}

async function showArrived() {
  const filters = { state: chosen("state"), chunk: chosen("chunk") }, limit = 10;
  const data = await getPage("api/chunks", "chunks_page", { ...filters, limit });
  const totals = data.totals ?? {};
  const rejected = (row) => {
    const [text, what] = row.state === "rejected"
      ? ["whole", `why chunk ${row.chunk_seq} was rejected whole`]
      : [count(row.rows_rejected), `the ${row.rows_rejected} rejected rows of chunk ${row.chunk_seq}`];
    return row.rejected_file ? fileLink(row.rejected_file, text, `Download ${what}`) : text;
  };
  numbers("arrived-numbers", [
    ["Chunks", count(totals.chunks ?? 0)], ["Rows in them", count(totals.rows_in_file ?? 0)],
    ["Rows accepted", count(totals.rows_accepted ?? 0)], ["Rows rejected", count(totals.rows_rejected ?? 0)],
    ["Chunks rejected", count(totals.chunks_rejected ?? 0)], ["Conflicts", count(totals.conflicts ?? 0)],
  ]);
  $("chunks-csv").href = `api/chunks.csv?${new URLSearchParams(filters)}`;
  table("chunks-table", `${many(data.found, "chunk")}, newest first`, [
    ["No.", (row) => count(row.chunk_seq), "number"],
    ["Key", (row) => row.chunk_key, "key"],
    ["State", (row) => row.state, "short"],
    ["Rows", (row) => count(row.rows_in_file), "number"],
    ["Accepted", (row) => count(row.rows_accepted), "number"],
    ["Rejected", rejected, "number"],
    ["First error", (row) => row.first_error ?? "", "words"],
    ["Detections", (row) => count(row.detections), "number"],
    ["Landed", (row) => time(row.landed_at), "short"],
    ["Loaded", (row) => time(row.loaded_at), "short"],
    ["Landing to file", (row) => duration(row.seconds), "number"],
    ["ETag", (row) => element("code", {}, row.etag), "short"],
  ], data.rows, data.snapshot.published_at ? "No chunk matches." : "No chunk has been taken yet.");
  pages("chunks_page", data.found, limit, "arrived");
  const open = data.snapshot.open_issues ?? 0;
  table("refusals-table", open > data.refusals.length ? `The latest ${count(data.refusals.length)} of ${count(open)}.` : "", [
    ["What", (row) => row.kind, "short"], ["About", (row) => row.about, "key"], ["Reason, and what to do", (row) => row.message, "words"],
    ["Seen", (row) => time(row.seen_at), "short"],
    ["File", (row) => row.rejected_file && fileLink(row.rejected_file, "reason", `Download the reason why ${row.about} was rejected`), "short"],
  ], data.refusals, "Nothing: whatever was refused was put right.");
  table("conflicts-table", data.conflicts.length ? "Their new content was not counted. If it holds other transactions, put them under a new key." : "", [
    ["Key", (row) => row.chunk_key, "key"], ["Taken as chunk", (row) => count(row.chunk_seq), "number"],
    ["Reason", (row) => `taken with ETag ${row.taken_etag}, now ${row.etag}`, "words"], ["Landed", (row) => time(row.landed_at), "short"], ["Seen", (row) => time(row.seen_at), "short"],
  ], data.conflicts, "None: no key that was taken came back with other content.");
  table("rejected-table", data.rejected_rows.length ? "The latest. All rows of a chunk are in the file behind its number above." : "", [
    ["Object", (row) => row.object_key, "key"], ["Line", (row) => count(row.line_number), "number"], ["Reason", (row) => row.reason, "words"], ["Text", (row) => element("code", {}, row.line ?? ""), "words"],
  ], data.rejected_rows, "None: every row that came in counts.");
  table("importance-table", "", [
    ["Version", (row) => count(row.importance_version), "number"], ["State", (row) => row.state, "short"], ["Rows accepted", (row) => count(row.rows_accepted), "number"],
    ["Rows rejected", (row) => count(row.rows_rejected), "number"], ["Reason", (row) => row.reason ?? "", "words"], ["Loaded", (row) => time(row.loaded_at), "short"],
  ], data.importance, "There is none, so UPGRADE cannot fire; the other patterns work.");
  return data;
}

// Told again to a screen reader only when the number changes.
function showToPutRight(number) {
  const text = `${many(number, "refusal")} to be put right. `;
  if (!$("to-put-right").textContent.startsWith(text)) $("to-put-right").replaceChildren(text, link("#refusals", "See which, and what to do"));
  $("to-put-right").hidden = !number;
}

async function refresh() {
  try {
    const found = await showFound();
    const [, , arrived] = await Promise.all([showKeepingUp(), showMerchants(), showArrived()]);
    const snapshot = arrived.snapshot;
    $("as-of").textContent = snapshot.published_at ? `As of ${time(snapshot.published_at)} (${zone})` : "No run has exported yet";
    showToPutRight(snapshot.open_issues ?? 0);
    $("problem").hidden = !snapshot.problem;
    $("problem").textContent = snapshot.problem ? `This page may be behind: ${snapshot.problem}` : "";
    document.body.dataset.ready = found.found;
  } catch (error) {
    $("problem").hidden = false;
    $("problem").textContent = error.message;
  }
}

function fillForms() {
  for (const form of document.forms) {
    for (const field of form.elements) if (field.name) field.value = chosen(field.name);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const changes = { page: "", merchants_page: "", chunks_page: "" };
      for (const field of form.elements) if (field.name) changes[field.name] = field.value.trim();
      location.assign(here(changes, form.dataset.part));
    });
  }
  for (const clear of document.querySelectorAll("[data-clear]")) {
    clear.href = here(Object.fromEntries(clear.dataset.clear.split(" ").map((name) => [name, ""])), clear.closest("section").id);
  }
}

document.documentElement.classList.toggle("dark", isDark());
addEventListener("DOMContentLoaded", async () => {
  fillForms();
  followTheme();
  await refresh();
  if (location.hash) document.querySelector(location.hash)?.scrollIntoView();
  setInterval(() => { if (!document.hidden) refresh(); }, REFRESH_MILLISECONDS);
});
