// Inside Airflow's frame: the theme that Airflow's page has, and links that leave the frame, which its sandbox forbids
// to follow from within. Without this script the pages follow the system's theme.
"use strict";

function parentDocument() {
  try {
    return window.parent === window ? null : window.parent.document;
  } catch {
    return null; // of another origin
  }
}

function theme() {
  const outside = parentDocument();
  if (outside) {
    const names = outside.documentElement.classList;
    if (names.contains("dark")) return "dark";
    if (names.contains("light")) return "light";
  }
  return null;
}

function follow() {
  const told = theme();
  if (told) document.documentElement.dataset.theme = told;
}

follow();
const outside = parentDocument();
if (outside) {
  new MutationObserver(follow).observe(outside.documentElement, { attributeFilter: ["class"], attributes: true });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[target]");
    if (!link) return;
    event.preventDefault();
    const twin = outside.createElement("a");
    twin.href = link.href;
    twin.target = link.target;
    twin.rel = link.rel;
    outside.body.append(twin);
    twin.click();
    twin.remove();
  });
}
