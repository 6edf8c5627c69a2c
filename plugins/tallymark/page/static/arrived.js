// The part "What came in, and what was rejected?".

import { chosen } from "./address.js";
import { getPage } from "./api.js";
import { $, element, fileLink, numbers, pages, table } from "./elements.js";
import { count, duration, many, time } from "./text.js";

const ROWS = 10;

const CHUNKS = [
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
];
const OPEN_ISSUES = [
  ["What", (row) => row.kind, "short"],
  ["About", (row) => row.about, "key"],
  ["Reason, and what to do", (row) => row.message, "words"],
  ["Seen", (row) => time(row.seen_at), "short"],
  [
    "File",
    (row) =>
      row.rejected_file && fileLink(row.rejected_file, "reason", `Download the reason why ${row.about} was rejected`),
    "short",
  ],
];
const CONFLICTS = [
  ["Key", (row) => row.chunk_key, "key"],
  ["Taken as chunk", (row) => count(row.chunk_seq), "number"],
  ["Reason", (row) => `taken with ETag ${row.taken_etag}, now ${row.etag}`, "words"],
  ["Landed", (row) => time(row.landed_at), "short"],
  ["Seen", (row) => time(row.seen_at), "short"],
];
const REJECTED_ROWS = [
  ["Object", (row) => row.object_key, "key"],
  ["Line", (row) => count(row.line_number), "number"],
  ["Reason", (row) => row.reason, "words"],
  ["Text", (row) => element("code", {}, row.line ?? ""), "words"],
];
const IMPORTANCE = [
  ["Version", (row) => count(row.importance_version), "number"],
  ["State", (row) => row.state, "short"],
  ["Rows accepted", (row) => count(row.rows_accepted), "number"],
  ["Rows rejected", (row) => count(row.rows_rejected), "number"],
  ["Reason", (row) => row.reason ?? "", "words"],
  ["Loaded", (row) => time(row.loaded_at), "short"],
];

function rejected(row) {
  const isWhole = row.state === "rejected";
  const text = isWhole ? "whole" : count(row.rows_rejected);
  if (!row.rejected_file) return text;
  const rows = many(row.rows_rejected, "rejected row");
  const what = isWhole ? `the reason why chunk ${row.chunk_seq} was rejected` : `${rows} of chunk ${row.chunk_seq}`;
  return fileLink(row.rejected_file, text, `Download ${what}`);
}

function showTotals(totals) {
  numbers("arrived-numbers", [
    ["Chunks", count(totals.chunks ?? 0)],
    ["Rows in them", count(totals.rows_in_file ?? 0)],
    ["Rows accepted", count(totals.rows_accepted ?? 0)],
    ["Rows rejected", count(totals.rows_rejected ?? 0)],
    ["Chunks rejected", count(totals.chunks_rejected ?? 0)],
    ["Conflicts", count(totals.conflicts ?? 0)],
  ]);
}

export async function showArrived() {
  const filters = { state: chosen("state"), chunk: chosen("chunk") };
  const data = await getPage("api/chunks", "chunks_page", { ...filters, limit: ROWS });
  showTotals(data.totals);
  $("chunks-csv").href = `api/chunks.csv?${new URLSearchParams(filters)}`;
  const noChunk = data.snapshot.published_at ? "No chunk matches." : "No chunk has been taken yet.";
  table("chunks-table", `${many(data.found, "chunk")}, newest first`, CHUNKS, data.rows, noChunk);
  pages("chunks_page", data.found, ROWS, "arrived");

  const shown = data.open_issues.length;
  const open = data.snapshot.open_issues ?? 0;
  const ofAll = open > shown ? `The latest ${count(shown)} of ${count(open)}.` : "";
  table("open-issues-table", ofAll, OPEN_ISSUES, data.open_issues, "None.");

  const advice = "The new content does not count. If it holds other transactions, put them under a new key.";
  const noConflict = "None: no chunk that was taken came back with other content.";
  table("conflicts-table", data.conflicts.length ? advice : "", CONFLICTS, data.conflicts, noConflict);

  const latest = "The latest. All rejected rows of a chunk are in the file behind its number above.";
  const noRow = "None: every row counts.";
  table("rejected-table", data.rejected_rows.length ? latest : "", REJECTED_ROWS, data.rejected_rows, noRow);

  const noImportance = "There is none, so UPGRADE finds nothing; the other patterns work.";
  table("importance-table", "", IMPORTANCE, data.importance, noImportance);
  return data;
}
