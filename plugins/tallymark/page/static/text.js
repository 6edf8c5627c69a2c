// Formats numbers and times.

// Shown instead of a customer in detections that are about a merchant.
export const WHOLE_MERCHANT = "whole merchant";

let zone = "UTC";

export function showTimesIn(timeZone) {
  zone = timeZone ?? "UTC";
}

export const count = (value) =>
  value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en-US");

export const many = (value, word) => `${count(value)} ${word}${value === 1 ? "" : "s"}`;

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 90) return `${seconds.toFixed(1)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${(seconds / 3600).toFixed(1)} h` : `${Math.round(seconds / 86400)} days`;
}

export function time(value) {
  if (!value) return "–";
  return new Date(value).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium", timeZone: zone });
}

export const asOf = (value) => `As of ${time(value)} (${zone})`;

// Labels a point of a chart; step: seconds between two points.
export function clock(value, step) {
  const day = { day: "2-digit", month: "short", timeZone: zone };
  const second = step < 60 ? "2-digit" : undefined;
  const rest = step < 86400 ? { hour: "2-digit", minute: "2-digit", second } : { year: "numeric" };
  return new Date(value).toLocaleString("en-GB", { ...day, ...rest });
}
