// Answers of the JSON endpoints.

import { chosen, forget } from "./address.js";

export async function get(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "");
  const answer = await fetch(`${path}?${new URLSearchParams(given)}`, { cache: "no-store" });
  if (answer.status === 401) throw new Error("You are no longer logged in to Airflow. Reload the page.");
  if (!answer.ok) throw new Error(`${path} answered ${answer.status}`);
  return answer.json();
}

// A page of a table; the first one, if the one in the address is behind the end.
export async function getPage(path, name, parameters) {
  const data = await get(path, { ...parameters, page: chosen(name) });
  if (data.rows.length || !chosen(name)) return data;
  forget(name);
  return get(path, parameters);
}
