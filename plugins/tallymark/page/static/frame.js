// Airflow shows the page in a sandboxed frame. Links in the frame can neither replace Airflow's page nor open a tab. Links
// of Airflow's document can.

export function followLinksOutsideFrame() {
  document.addEventListener("click", (event) => {
    const followed = event.target.closest("a[target]");
    if (!followed || parent === window) return;
    event.preventDefault();
    const { href, target } = followed;
    Object.assign(parent.document.createElement("a"), { href, target, rel: "noopener" }).click();
  });
}
