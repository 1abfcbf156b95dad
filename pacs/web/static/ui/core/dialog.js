// Dialogs: focus stays inside, Escape closes, and focus goes back to where it was (the browser's <dialog> does that).

import { h, icon } from "./dom.js";
import { icons } from "./icons.js";
import { t } from "./i18n.js";

// Open one; resolves with the value of the action that closed it, null when it was dismissed.
// actions: [{text, value, kind: "primary" | "danger" | "", run: async () => value}]; run may throw: the dialog stays.
export function openDialog({ title, body, actions = [], wide = false }) {
  return new Promise((resolve) => {
    const id = `dialog-${Math.random().toString(36).slice(2)}`;
    let result = null;
    const failure = h("p.failure", { role: "alert", hidden: true });
    const buttons = actions.map((action) =>
      h(`button${action.kind ? `.${action.kind}` : ""}`, {
        type: "button",
        onclick: async (event) => {
          event.currentTarget.disabled = true;
          try {
            result = action.run ? await action.run() : action.value;
            dialog.close();
          } catch (error) {
            failure.textContent = error.message || t("core.failed");
            failure.hidden = false;
          } finally {
            buttons.forEach((button) => (button.disabled = false));
          }
        },
      }, action.text),
    );
    const dialog = h(`dialog${wide ? ".wide" : ""}`, { "aria-labelledby": id },
      h("header", {}, h("h2", { id }, title),
        h("button.icon", { type: "button", "aria-label": t("core.close"), onclick: () => dialog.close() }, icon(icons.close))),
      h("div.body", {}, body), failure,
      buttons.length ? h("footer", {}, buttons) : null);
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(result);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

export function confirm(title, text, action, kind = "danger") {
  return openDialog({
    title,
    body: h("p", {}, text),
    actions: [{ text: t("core.cancel"), value: false }, { text: action, value: true, kind }],
  });
}
