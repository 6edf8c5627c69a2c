// Requests to the JSON endpoints.

import { chosen, forget } from "./address.js";

export async function get(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "");
  const response = await fetch(`${path}?${new URLSearchParams(given)}`, { cache: "no-store" });
  if (response.status === 401) throw new Error("Your Airflow session has expired. Reload the page to log in.");
  if (!response.ok) throw new Error(`Failed to load ${path}: HTTP status ${response.status}.`);
  return response.json();
}

// Returns a page of a table; the first page if the one in the address is past the end.
export async function getPage(path, name, parameters) {
  const data = await get(path, { ...parameters, page: chosen(name) });
  if (data.rows.length || !chosen(name)) return data;
  forget(name);
  return get(path, parameters);
}
