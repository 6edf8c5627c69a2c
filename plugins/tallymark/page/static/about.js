// Facts that stay the same while the page is open: the version, links to documentation, and where input belongs.

import { get } from "./api.js";
import { $, link } from "./elements.js";

let about = null;

// Airflow's frame can show this app's own documents. Other sites open in a tab.
function documentLink({ name, address }) {
  const isOwn = new URL(address, location).origin === location.origin;
  return link(address, name, isOwn ? {} : { target: "_blank", rel: "noopener" });
}

export async function loadAbout() {
  if (about) return;
  about = await get("api/about");
  $("version").textContent = about.version ? `Tallymark ${about.version}` : "Tallymark";
  $("documentation").replaceChildren(...about.documentation.map(documentLink));
}

// what: "transactions" or "customers"
export const whereToUpload = (what) => about[what];
