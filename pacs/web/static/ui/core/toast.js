// Short messages at the edge. An error, and one with an action, stays until it is used, dismissed, or left behind with its
// view after it could be read; one without kind, which tells how far something is, stays over all views.

import { h, icon } from "./dom.js";
import { icons } from "./icons.js";
import { t } from "./i18n.js";

const SHOWN_MS = 6000;

// kind: "", "success" or "error". action: {text, run}. Returns a function that takes it away.
export function toast(text, { kind = "", action = null, ms = action || kind === "error" ? 0 : SHOWN_MS } = {}) {
  const close = () => element.remove();
  const element = h(`div.toast${kind ? `.${kind}` : ""}`, {},
    h("span", {}, text),
    action && h("button", { type: "button", onclick: () => { close(); action.run(); } }, action.text),
    h("button.icon", { type: "button", "aria-label": t("core.close"), onclick: close }, icon(icons.close, 16)));
  document.getElementById("toasts").append(element);
  if (ms) setTimeout(close, ms);
  else if (kind) setTimeout(() => window.addEventListener("route", close, { once: true }), SHOWN_MS);
  return close;
}

export function toastError(error) {
  if (error.name === "AbortError") return;
  toast(error.status === 0 ? t("core.offline") : error.message || t("core.failed"), { kind: "error" });
}
