// Follows the light or dark mode of Airflow. It runs before the page is drawn, so that no mode flashes up, and tells the
// page of each change by the event "themechange".
(() => {
  const systemMode = matchMedia("(prefers-color-scheme: dark)");
  const classes = document.documentElement.classList;

  // Airflow sets the class on its own document, around this one; alone, what it stored or the system decides.
  function isDark() {
    try {
      if (parent !== window) return parent.document.documentElement.classList.contains("dark");
      const stored = localStorage.getItem("theme");
      if (stored === "dark" || stored === "light") return stored === "dark";
    } catch {
      // A document of another origin is around this one.
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
    // The same.
  }
})();
