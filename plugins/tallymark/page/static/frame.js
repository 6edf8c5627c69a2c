// Airflow shows the page in a sandboxed frame. Its own links can neither replace Airflow's page nor open a tab, but links
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
