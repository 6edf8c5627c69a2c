// Charts, drawn with Chart.js, which index.html loads.

import { $ } from "./elements.js";

const charts = {};

export const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// Draws a chart, or replaces its data. Without data, the figure is hidden.
export function chart(id, label, type, labels, datasets, { stacked = false } = {}) {
  $(id).closest("figure").hidden = !labels.length;
  if (!labels.length && !charts[id]) return;
  $(id).setAttribute("aria-label", label);
  if (charts[id]) {
    charts[id].data = { labels, datasets };
    charts[id].update("none");
    return;
  }
  const ticks = { color: color("muted"), maxTicksLimit: 8, maxRotation: 0, autoSkipPadding: 16 };
  const axis = { grid: { color: color("line") }, ticks, stacked };
  charts[id] = new Chart($(id), {
    type,
    data: { labels, datasets },
    options: {
      animation: false,
      maintainAspectRatio: false,
      datasets: { bar: { maxBarThickness: 48 } },
      scales: { x: axis, y: { ...axis, beginAtZero: true } },
      plugins: { legend: { display: datasets.length > 1, labels: { color: color("text"), boxWidth: 12 } } },
    },
  });
}

// Makes the next call of `chart` draw in the current colors.
export function forgetCharts() {
  for (const [id, drawn] of Object.entries(charts)) {
    drawn.destroy();
    delete charts[id];
  }
}
