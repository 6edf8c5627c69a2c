// Elements of the page. Data from files is set as text, never as HTML.

import { chosen, here } from "./address.js";
import { count } from "./text.js";

export const $ = (id) => document.getElementById(id);

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const link = (href, text, attributes = {}) => element("a", { href, ...attributes }, text);

export const dagLink = (dag, text = dag) => link(`../dags/${dag}`, text, { target: "_top" });

export function fileLink(key, text, label) {
  const path = key.split("/").map(encodeURIComponent).join("/");
  return link(`files/${path}`, text, { download: "", "aria-label": label });
}

// columns: [title, row => text or element, class]; empty: text and elements to show if there are no rows
export function table(id, caption, columns, rows, ...empty) {
  const titles = columns.map(([title, , kind]) => element("th", { scope: "col", class: kind }, title));
  const cells = (row) =>
    columns.map(([title, cell, kind]) => element("td", { class: kind, "data-title": title }, cell(row) ?? "–"));
  const body = rows.map((row) => element("tr", {}, ...cells(row)));
  if (!rows.length) {
    $(id).replaceChildren(element("tbody", {}, element("tr", {}, element("td", { class: "muted" }, ...empty))));
    return;
  }
  $(id).replaceChildren(
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...titles)),
    element("tbody", {}, ...body),
  );
}

// facts: [label, value, note]
export function numbers(id, facts) {
  const boxes = facts.map(([label, value, note]) =>
    element("div", {}, element("dt", {}, label), element("dd", {}, value, note ? element("small", {}, note) : null)),
  );
  $(id).replaceChildren(...boxes);
}

// Shows links to the other pages of a table.
export function pages(name, found, limit, part) {
  const at = Math.max(1, Number(chosen(name)) || 1);
  const last = Math.max(1, Math.ceil(found / limit));
  const to = (page, text) => link(here({ [name]: page === 1 ? "" : page }, part), text, { class: "button" });
  document
    .querySelector(`[data-pages=${name}]`)
    .replaceChildren(
      ...(at > 1 ? [to(1, "First"), to(at - 1, "Previous")] : []),
      element("span", {}, `Page ${count(at)} of ${count(last)}`),
      ...(at < last ? [to(at + 1, "Next"), to(last, "Last")] : []),
    );
}
