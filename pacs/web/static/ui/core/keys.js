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
    if (event.target.closest?.("input, textarea, select, [contenteditable]") && event.key !== "Escape") return;
    const found = bound.get(event.key);
    if (!found) return;
    if (found.handler(event) !== false) event.preventDefault();
  });
}

function showHelp() {
  const rows = [...bound].map(([key, { text }]) => h("tr", {}, h("td", {}, h("kbd", {}, key === " " ? "Space" : key)), h("td", {}, t(text))));
  openDialog({ title: t("core.keys.title"), body: h("table.plain", {}, h("tbody", {}, rows)) });
}
