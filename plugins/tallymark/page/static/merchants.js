// The section "Who is close to a threshold?".

import { chosen, here } from "./address.js";
import { getPage } from "./api.js";
import { $, element, link, pages, table } from "./elements.js";
import { count, many, WHOLE_MERCHANT } from "./text.js";

const ROWS = 10;

const COLUMNS = [
  ["Merchant", merchantLink, "key"],
  ["Transactions", (row) => count(row.transactions), "number"],
  ["Customers", (row) => count(row.customers), "number"],
  ["Female", (row) => count(row.female_customers), "number"],
  ["Male", (row) => count(row.male_customers), "number"],
  ["Detections", detections, "words"],
];
const CLOSEST = [
  ["Pattern", (row) => `${row.pattern_id} ${row.action_type}`, "short"],
  ["Customer", (row) => row.customer || WHOLE_MERCHANT, "key"],
  ["Evidence", (row) => row.evidence, "words"],
  ["As of chunk", (row) => count(row.chunk_seq), "number"],
];

function merchantLink(row) {
  return link(here({ merchant: row.merchant, page: "", merchants_page: "" }, "merchants"), row.merchant);
}

function detections(row) {
  const counts = Object.entries(row.detections ?? {}).map(([pattern, number]) => `${pattern}: ${count(number)}`);
  return counts.join(", ") || "none";
}

function showOne(merchant, nearest) {
  const near = nearest.length
    ? element(
        "div",
        { class: "table", role: "region", "aria-label": "Close to a threshold", tabindex: "0" },
        element("table", { id: "nearest-table", class: "cards" }),
      )
    : element("p", { class: "muted" }, "No customers close to a threshold.");
  const toDetections = link(here({ merchant: merchant.merchant, page: "" }, "found"), "Show detections");
  $("merchant").replaceChildren(
    element("h3", {}, merchant.merchant),
    element("p", {}, `Detections: ${detections(merchant)}. `, toDetections),
    element("h3", {}, "Close to a threshold"),
    near,
  );
  if (nearest.length) table("nearest-table", `Closest at ${merchant.merchant}, by pattern`, CLOSEST, nearest, "");
}

export async function showMerchants() {
  const merchant = chosen("merchant");
  const data = await getPage("api/merchants", "merchants_page", { merchant, limit: ROWS });
  const caption = merchant
    ? many(data.found, "matching merchant")
    : `${many(data.found, "merchant")}, most transactions first`;
  const empty = merchant
    ? "No merchants match this filter."
    : "No merchants yet. They appear after the first export of accepted transactions.";
  table("merchants-table", caption, COLUMNS, data.rows, empty);
  pages("merchants_page", data.found, ROWS, "merchants");
  const one = data.rows.find((row) => row.merchant === merchant);
  if (one) {
    showOne(one, data.nearest);
  } else {
    const hint = data.rows.length ? "Choose a merchant to see which of its customers are close to a threshold." : "";
    $("merchant").replaceChildren(element("p", { class: "muted" }, hint));
  }
}
