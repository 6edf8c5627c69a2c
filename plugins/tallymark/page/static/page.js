// The Detections page: fills its five sections, and refreshes them every few seconds.

import { loadAbout } from "./about.js";
import { chosen, here } from "./address.js";
import { showArrived } from "./arrived.js";
import { forgetCharts } from "./charts.js";
import { $, link } from "./elements.js";
import { showFound } from "./found.js";
import { followLinksOutsideFrame } from "./frame.js";
import { showKeepingUp } from "./keeping-up.js";
import { showMerchants } from "./merchants.js";
import { asOf, many } from "./text.js";
import { showWhatIf } from "./what-if.js";

const REFRESH_MILLISECONDS = 5000;
const FIRST_PAGES = { page: "", merchants_page: "", chunks_page: "" };

// Replaced only when the number changes, because screen readers announce every replacement.
function showOpenIssues(number) {
  const line = $("open-issues-line");
  const text = `${many(number, "open issue")}. `;
  if (!line.textContent.startsWith(text)) line.replaceChildren(text, link("#open-issues", "See what to do"));
  line.hidden = !number;
}

function showProblem(text) {
  $("problem").hidden = !text;
  $("problem").textContent = text;
}

async function refresh() {
  try {
    await loadAbout();
    const found = await showFound();
    const [arrived] = await Promise.all([showArrived(), showKeepingUp(), showMerchants(), showWhatIf()]);
    const { published_at: publishedAt, open_issues: openIssues, problem } = arrived.snapshot;
    $("as-of").textContent = publishedAt ? asOf(publishedAt) : "No snapshot yet. The first export publishes one.";
    showOpenIssues(openIssues ?? 0);
    showProblem(problem ? `This page may be out of date: ${problem}` : "");
    document.body.dataset.ready = found.found;
  } catch (error) {
    showProblem(error.message);
  }
}

function fillForms() {
  for (const form of document.forms) {
    const fields = [...form.elements].filter((field) => field.name);
    for (const field of fields) field.value = chosen(field.name);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const filters = Object.fromEntries(fields.map((field) => [field.name, field.value.trim()]));
      location.assign(here({ ...FIRST_PAGES, ...filters }, form.dataset.part));
    });
  }
  for (const clear of document.querySelectorAll("[data-clear]")) {
    const none = Object.fromEntries(clear.dataset.clear.split(" ").map((name) => [name, ""]));
    clear.href = here(none, clear.closest("section").id);
  }
}

fillForms();
followLinksOutsideFrame();
document.addEventListener("themechange", () => {
  forgetCharts();
  refresh();
});
await refresh();
$(location.hash.slice(1))?.scrollIntoView();
setInterval(() => {
  if (!document.hidden) refresh();
}, REFRESH_MILLISECONDS);
