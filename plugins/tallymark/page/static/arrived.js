// The section "What arrived, and what was rejected?".

import { whereToUpload } from "./about.js";
import { chosen } from "./address.js";
import { getPage } from "./api.js";
import { $, element, fileLink, numbers, pages, table } from "./elements.js";
import { count, duration, many, time } from "./text.js";

const ROWS = 10;

const CHUNKS = [
  ["No.", (row) => count(row.chunk_seq), "number"],
  ["Key and ETag", keyAndEtag, "key"],
  ["State", (row) => row.state, "short"],
  ["Rows", (row) => count(row.rows_in_file), "number"],
  ["Accepted", (row) => count(row.rows_accepted), "number"],
  ["Rejected", rejectedFile, "number"],
  ["First error", (row) => row.first_error ?? "", "words"],
  ["Detections", (row) => count(row.detections), "number"],
  ["Landed", (row) => time(row.landed_at), "time"],
  ["Loaded", (row) => time(row.loaded_at), "time"],
  ["Landing to file", (row) => duration(row.seconds), "number"],
];
const OPEN_ISSUES = [
  ["Issue", (row) => row.kind, "short"],
  ["Object", (row) => row.about, "key"],
  ["Reason and action", (row) => row.message, "words"],
  ["Seen", (row) => time(row.seen_at), "short"],
  [
    "File",
    (row) =>
      row.rejected_file && fileLink(row.rejected_file, "reason", `Download the rejection reason of ${row.about}`),
    "short",
  ],
];
const CONFLICTS = [
  ["Key", (row) => row.chunk_key, "key"],
  ["Accepted as chunk", (row) => count(row.chunk_seq), "number"],
  ["Reason", (row) => `accepted with ETag ${row.taken_etag}, now ${row.etag}`, "words"],
  ["Landed", (row) => time(row.landed_at), "short"],
  ["Seen", (row) => time(row.seen_at), "short"],
];
const REJECTED_ROWS = [
  ["Object", (row) => row.object_key, "key"],
  ["Line", (row) => count(row.line_number), "number"],
  ["Reason", (row) => row.reason, "words"],
  ["Line content", (row) => element("code", {}, row.line ?? ""), "words"],
];
const IMPORTANCE = [
  ["Version", (row) => count(row.importance_version), "number"],
  ["State", (row) => row.state, "short"],
  ["Accepted rows", (row) => count(row.rows_accepted), "number"],
  ["Rejected rows", (row) => count(row.rows_rejected), "number"],
  ["Reason", (row) => row.reason ?? "", "words"],
  ["Loaded", (row) => time(row.loaded_at), "short"],
];

function keyAndEtag(row) {
  return element("span", {}, row.chunk_key, element("small", {}, element("code", {}, row.etag)));
}

function rejectedFile(row) {
  const isWhole = row.state === "rejected";
  const text = isWhole ? "all" : count(row.rows_rejected);
  if (!row.rejected_file) return text;
  const rows = many(row.rows_rejected, "rejected row");
  const what = isWhole ? `the rejection reason of chunk ${row.chunk_seq}` : `${rows} of chunk ${row.chunk_seq}`;
  return fileLink(row.rejected_file, text, `Download ${what}`);
}

function showTotals(totals) {
  numbers("arrived-numbers", [
    ["Chunks", count(totals.chunks ?? 0)],
    ["Rows", count(totals.rows_in_file ?? 0)],
    ["Accepted rows", count(totals.rows_accepted ?? 0)],
    ["Rejected rows", count(totals.rows_rejected ?? 0)],
    ["Rejected chunks", count(totals.chunks_rejected ?? 0)],
    ["Conflicts", count(totals.conflicts ?? 0)],
  ]);
}

export async function showArrived() {
  const filters = { state: chosen("state"), chunk: chosen("chunk") };
  const data = await getPage("api/chunks", "chunks_page", { ...filters, limit: ROWS });
  showTotals(data.totals);
  $("chunks-csv").href = `api/chunks.csv?${new URLSearchParams(filters)}`;
  const noChunk =
    filters.state || filters.chunk
      ? "No chunks match these filters."
      : `No chunks yet. Upload a file of transactions to ${whereToUpload("transactions")}.`;
  table("chunks-table", `${many(data.found, "chunk")}, newest first`, CHUNKS, data.rows, noChunk);
  pages("chunks_page", data.found, ROWS, "arrived");

  const shown = data.open_issues.length;
  const open = data.snapshot.open_issues ?? 0;
  const ofAll = open > shown ? `The latest ${count(shown)} of ${count(open)}` : "";
  table("open-issues-table", ofAll, OPEN_ISSUES, data.open_issues, "No open issues.");

  const advice = "The new content is ignored. If it has new transactions, upload it under a new key.";
  const noConflict = "No conflicts. An accepted chunk that lands again with different content is listed here.";
  table("conflicts-table", data.conflicts.length ? advice : "", CONFLICTS, data.conflicts, noConflict);

  const latest = "The latest. The number in the Rejected column above links to all rejected rows of a chunk.";
  const noRow = "No rejected rows.";
  table("rejected-table", data.rejected_rows.length ? latest : "", REJECTED_ROWS, data.rejected_rows, noRow);

  const noImportance = `No customer importance yet, so UPGRADE detects nothing. Upload it to ${whereToUpload("customers")}.`;
  table("importance-table", "", IMPORTANCE, data.importance, noImportance);
  return data;
}
