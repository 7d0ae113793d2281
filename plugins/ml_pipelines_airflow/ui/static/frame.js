// Within Airflow's frame: use the theme of Airflow's page, and open links that leave the frame, which its sandbox
// forbids. Without this script the pages use the theme of the system.
"use strict";

function parentDocument() {
  try {
    return window.parent === window ? null : window.parent.document;
  } catch {
    return null; // the parent has another origin
  }
}

function parentTheme(page) {
  const names = page.documentElement.classList;
  if (names.contains("dark")) return "dark";
  return names.contains("light") ? "light" : null;
}

const airflow = parentDocument();

function applyTheme() {
  const theme = airflow && parentTheme(airflow);
  if (theme) document.documentElement.dataset.theme = theme;
}

applyTheme();
if (airflow) {
  new MutationObserver(applyTheme).observe(airflow.documentElement, { attributeFilter: ["class"], attributes: true });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[target]");
    if (!link) return;
    event.preventDefault();
    const copy = airflow.createElement("a");
    copy.href = link.href;
    copy.target = link.target;
    copy.rel = link.rel;
    airflow.body.append(copy);
    copy.click();
    copy.remove();
  });
}
