// Keyboard: what each view does by which key, and "?" which shows them all.

import { h } from "./dom.js";
import { openDialog } from "./dialog.js";
import { t } from "./i18n.js";

const bound = new Map();

// Bind while a view is shown. keys: {"/": ["list.key.search", handler]}; signal: of the view.
export function bind(keys, signal) {
  for (const [key, [text, handler]] of Object.entries(keys)) bound.set(key, { text, handler });
  signal?.addEventListener("abort", () => {
    for (const [key, [, handler]] of Object.entries(keys)) if (bound.get(key)?.handler === handler) bound.delete(key);
  });
}

export function bindShortcuts() {
  bind({ "?": ["core.keys.help", showHelp] });
  window.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.closest?.("input:not([type=range]), textarea, select, [contenteditable]") && event.key !== "Escape") return;
    const found = bound.get(event.key);
    if (!found) return;
    if (found.handler(event) !== false) event.preventDefault();
  });
}

const NAMES = { " ": "Space", ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→", PageUp: "PgUp", PageDown: "PgDn", Delete: "Del" };

// Keys that do the same stand in one row.
function showHelp() {
  const rows = new Map();
  for (const [key, { text }] of bound) rows.set(text, [...(rows.get(text) ?? []), h("kbd", {}, NAMES[key] ?? key), " "]);
  const drawn = [...rows].map(([text, keys]) => h("tr", {}, h("td", {}, keys), h("td", {}, t(text))));
  openDialog({ title: t("core.keys.title"), body: h("table.plain", {}, h("tbody", {}, drawn)) });
}
