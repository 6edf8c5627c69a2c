// Follows the light or dark mode of Airflow. Runs before the page is drawn, so that the wrong mode never flashes. Each
// change fires a "themechange" event.
(() => {
  const systemMode = matchMedia("(prefers-color-scheme: dark)");
  const classes = document.documentElement.classList;

  // In Airflow's frame, the class of Airflow's document decides. Otherwise the mode that Airflow stored does, then the
  // system.
  function isDark() {
    try {
      if (parent !== window) return parent.document.documentElement.classList.contains("dark");
      const stored = localStorage.getItem("theme");
      if (stored === "dark" || stored === "light") return stored === "dark";
    } catch {
      // The frame belongs to another origin.
    }
    return systemMode.matches;
  }

  function follow() {
    if (classes.contains("dark") === isDark()) return;
    classes.toggle("dark");
    document.dispatchEvent(new Event("themechange"));
  }

  follow();
  systemMode.addEventListener("change", follow);
  addEventListener("storage", follow);
  try {
    if (parent !== window) {
      new MutationObserver(follow).observe(parent.document.documentElement, { attributeFilter: ["class"] });
    }
  } catch {
    // The frame belongs to another origin.
  }
})();
