// Elements of the page. Whatever comes from files is set as text, never as HTML.

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

export function fileLink(key, text, label) {
  const path = key.split("/").map(encodeURIComponent).join("/");
  return link(`files/${path}`, text, { download: "", "aria-label": label });
}

// columns: [title, row => text or element, class]
export function table(id, caption, columns, rows, empty) {
  const titles = columns.map(([title, , kind]) => element("th", { scope: "col", class: kind }, title));
  const cells = (row) =>
    columns.map(([title, cell, kind]) => element("td", { class: kind, "data-title": title }, cell(row) ?? "–"));
  const body = rows.map((row) => element("tr", {}, ...cells(row)));
  if (!rows.length) {
    body.push(element("tr", {}, element("td", { colspan: columns.length, class: "muted" }, empty)));
  }
  $(id).replaceChildren(
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...titles)),
    element("tbody", {}, ...body),
  );
}

// facts: [name, value, note]
export function numbers(id, facts) {
  const boxes = facts.map(([name, value, note]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value, note ? element("small", {}, note) : null)),
  );
  $(id).replaceChildren(...boxes);
}

// Links to the other pages of a table.
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
