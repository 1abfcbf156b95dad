// Of oneself: who one is, the password, and tokens for programs.

import { json } from "../core/api.js";
import { confirm, openDialog } from "../core/dialog.js";
import { h, replace } from "../core/dom.js";
import { moment } from "../core/format.js";
import { t } from "../core/i18n.js";
import { refresh, session } from "../core/session.js";
import { toast, toastError } from "../core/toast.js";
import texts from "../texts/accounts.js";
import { passwordInput, roleSelect, scope } from "./accounts.js";
import { field } from "./login.js";

export default {
  name: "me",
  title: () => t("me.title"),
  texts,
  styles: ["accounts"],
  async mount(root, { signal }) {
    const isAccount = session.via === "session" || session.via === "password";
    root.append(
      h("div.head", {}, h("h1", {}, t("me.title"))),
      h("p", {}, session.name, " · ", t(`role.${session.role}`), " · ", scope(session)));
    if (!isAccount) return void root.append(h("p.soft", {}, t("me.noAccount")));
    root.append(h("section.card", { "aria-labelledby": "me-password" }, h("h2", { id: "me-password" }, t("password.title")), passwordForm()));
    const place = h("div", {});
    const draw = async () => replace(place, tokens(await json("tokens", { signal }), draw));
    root.append(h("section.card", { "aria-labelledby": "me-tokens" },
      h("div.head", {}, h("h2", { id: "me-tokens" }, t("tokens.title")),
        h("button", { type: "button", onclick: () => add(draw).catch(toastError) }, t("tokens.add"))),
      h("p.soft", {}, t("tokens.about")), place));
    await draw().catch((error) => {
      if (error.status !== 403) throw error; // logged in another way than by an account here
      replace(place, h("p", {}, t("me.noAccount")));
    });
  },
};

function passwordForm() {
  const old = passwordInput("old-password", "current-password");
  const next = passwordInput("new-password");
  const failure = h("p.failure", { role: "alert", hidden: true });
  const form = h("form", {
    onsubmit: async (event) => {
      event.preventDefault();
      failure.hidden = true;
      try {
        await json("session/password", { method: "POST", json: { old: old.value, new: next.value } });
        await refresh(); // all sessions ended; this one goes on as a new one
        form.reset();
        toast(t("password.changed"), { kind: "success" });
      } catch (error) {
        failure.textContent = error.status === 403 ? t("password.wrong") : error.status === 429 ? t("login.wait") : error.message;
        failure.hidden = false;
      }
    },
  }, field("old-password", t("password.old"), old), field("new-password", t("password.new"), next, t("password.hint")), failure,
  h("button", { type: "submit" }, t("password.change")));
  return form;
}

function tokens(found, draw) {
  if (!found.length) return h("p.soft", {}, t("tokens.none"));
  const heads = ["name", "role", "scope", "expires", "used"].map((name) => h("th", { scope: "col" }, t(`tokens.${name}`)));
  return h("div.scroll", {}, h("table", {},
    h("thead", {}, h("tr", {}, heads, h("th", { scope: "col" }, h("span.hidden", {}, t("accounts.actions"))))),
    h("tbody", {}, found.map((token) => h("tr", {},
      h("th", { scope: "row" }, token.name), h("td", {}, t(`role.${token.role}`)), h("td", {}, scope(token)),
      h("td", {}, token.expires ? moment(token.expires) : t("tokens.never")),
      h("td", {}, token.last_used || t("tokens.unused")),
      h("td.actions", {}, h("button", {
        type: "button",
        "aria-label": `${t("accounts.remove")}: ${token.name}`,
        onclick: () => remove(token, draw).catch(toastError),
      }, t("accounts.remove"))))))));
}

async function add(draw) {
  const name = h("input", { id: "token-name", autocomplete: "off", required: true });
  const role = roleSelect("token-role", "reader", session.role);
  const days = h("input", { id: "token-days", type: "number", min: "1", max: "3650", value: "90" });
  const made = await openDialog({
    title: t("tokens.add"),
    body: [
      field("token-name", t("tokens.name"), name, t("tokens.name.hint")),
      field("token-role", t("accounts.role"), role),
      field("token-days", t("tokens.days"), days, t("tokens.days.hint")),
    ],
    actions: [
      { text: t("core.cancel"), value: null },
      {
        text: t("tokens.make"),
        kind: "primary",
        run: () => json("tokens", {
          method: "POST",
          json: { name: name.value, role: role.value, days: days.value ? Number(days.value) : null },
        }),
      },
    ],
  });
  if (!made) return;
  await draw();
  const shown = h("input", { id: "token-text", readonly: true, value: made.token, onfocus: (event) => event.target.select() });
  await openDialog({
    title: t("tokens.made"),
    wide: true,
    body: field("token-text", t("tokens.once"), shown, `Authorization: Bearer ${made.token.slice(0, 12)}…`),
    actions: [
      { text: t("tokens.copy"), run: async () => { await navigator.clipboard.writeText(made.token); toast(t("tokens.copied"), { kind: "success" }); } },
      { text: t("core.close"), kind: "primary", value: true },
    ],
  });
}

async function remove(token, draw) {
  if (!(await confirm(t("tokens.remove.title", { name: token.name }), t("tokens.remove.text"), t("accounts.remove")))) return;
  await json(`tokens/${encodeURIComponent(token.id)}`, { method: "DELETE" });
  await draw();
}
