// Short messages at the edge; one with an action stays until it is used or dismissed.

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
  return close;
}

export function toastError(error) {
  if (error.name === "AbortError") return;
  toast(error.status === 0 ? t("core.offline") : error.message || t("core.failed"), { kind: "error" });
}
