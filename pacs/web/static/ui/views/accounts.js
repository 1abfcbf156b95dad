// Accounts, for administrators: who may log in, and what they may do.

import { json } from "../core/api.js";
import { confirm, openDialog } from "../core/dialog.js";
import { h, replace } from "../core/dom.js";
import { moment } from "../core/format.js";
import { t } from "../core/i18n.js";
import { session } from "../core/session.js";
import { toast, toastError } from "../core/toast.js";
import texts from "../texts/accounts.js";
import { field } from "./login.js";

export const ROLES = ["reader", "writer", "admin"];

export default {
  name: "accounts",
  title: () => t("accounts.title"),
  texts,
  styles: ["accounts"],
  async mount(root, { signal }) {
    const place = h("div", {});
    const draw = async () => replace(place, table(await json("accounts", { signal }), draw));
    root.append(
      h("div.head", {}, h("h1", {}, t("accounts.title")),
        h("a.button", { href: "#/me" }, t("me.title")),
        h("button.primary", { type: "button", onclick: () => edit(null, draw) }, t("accounts.add"))),
      h("p.soft", {}, t("accounts.about")), place);
    await draw();
  },
};

function table(accounts, draw) {
  if (!accounts.length) return h("p.card", {}, t("accounts.empty"));
  const heads = ["name", "role", "scope", "state", "created"].map((name) => h("th", { scope: "col" }, t(`accounts.${name}`)));
  return h("div.scroll", {}, h("table", {},
    h("thead", {}, h("tr", {}, heads, h("th", { scope: "col" }, h("span.hidden", {}, t("accounts.actions"))))),
    h("tbody", {}, accounts.map((account) => row(account, draw)))));
}

function row(account, draw) {
  const act = (text, run, kind = "") => h(`button${kind}`, {
    type: "button",
    "aria-label": `${text}: ${account.name}`,
    onclick: async () => {
      try {
        await run();
      } catch (error) {
        toastError(error);
      }
    },
  }, text);
  const toggle = async () => {
    await json(`accounts/${encodeURIComponent(account.name)}`, { method: "PATCH", json: { is_disabled: !account.is_disabled } });
    await draw();
  };
  const remove = async () => {
    const isSure = await confirm(t("accounts.remove.title", { name: account.name }), t("accounts.remove.text"), t("accounts.remove"));
    if (!isSure) return;
    await json(`accounts/${encodeURIComponent(account.name)}`, { method: "DELETE" });
    await draw();
  };
  return h("tr", { dataset: { account: account.name } },
    h("th", { scope: "row" }, account.name, account.name === session.name ? h("span.chip", {}, t("accounts.you")) : null),
    h("td", {}, t(`role.${account.role}`)),
    h("td", {}, scope(account)),
    h("td", {}, account.is_disabled ? h("span.chip.bad", {}, t("accounts.disabled")) : h("span.chip.good", {}, t("accounts.enabled"))),
    h("td", {}, moment(account.created)),
    h("td.actions", {},
      act(t("accounts.edit"), () => edit(account, draw)),
      act(t("accounts.reset"), () => reset(account)),
      act(t(account.is_disabled ? "accounts.enable" : "accounts.disable"), toggle),
      act(t("accounts.remove"), remove)));
}

// What of the archive: in words.
export function scope({ modalities, labels }) {
  const parts = [];
  if (modalities) parts.push(t("scope.modalities", { list: modalities.join(", ") || "–" }));
  if (labels) parts.push(t("scope.labels", { list: labels.join(", ") || "–" }));
  return parts.join("; ") || t("scope.everything");
}

// account null: a new one.
async function edit(account, draw) {
  const name = h("input", { id: "account-name", autocomplete: "off", autocapitalize: "none", spellcheck: "false" });
  const password = passwordInput("account-password");
  const role = roleSelect("account-role", account?.role || "reader");
  const limits = scopeInputs("account", account || {});
  const saved = await openDialog({
    title: account ? t("accounts.edit.title", { name: account.name }) : t("accounts.add"),
    body: [
      account ? null : field("account-name", t("login.name"), name),
      account ? null : field("account-password", t("login.password"), password, t("password.hint")),
      field("account-role", t("accounts.role"), role),
      limits.fields,
    ],
    actions: [
      { text: t("core.cancel"), value: null },
      {
        text: t("accounts.save"),
        kind: "primary",
        run: () => {
          const body = { role: role.value, ...limits.values() };
          if (account) return json(`accounts/${encodeURIComponent(account.name)}`, { method: "PATCH", json: body });
          return json("accounts", { method: "POST", json: { ...body, name: name.value, password: passwordOf(password) } });
        },
      },
    ],
  });
  if (saved) await draw();
}

async function reset(account) {
  const password = passwordInput("reset-password");
  const done = await openDialog({
    title: t("accounts.reset.title", { name: account.name }),
    body: [h("p", {}, t("accounts.reset.text")), field("reset-password", t("password.new"), password, t("password.hint"))],
    actions: [
      { text: t("core.cancel"), value: null },
      {
        text: t("accounts.save"),
        kind: "primary",
        run: () => json(`accounts/${encodeURIComponent(account.name)}`, { method: "PATCH", json: { password: passwordOf(password) } }),
      },
    ],
  });
  if (done) toast(t("password.changed"), { kind: "success" });
}

export function passwordInput(id, autocomplete = "new-password") {
  return h("input", { id, type: "password", autocomplete, minlength: "8", required: true });
}

// What was typed. Throws what is wrong with it, in the reader's language; the server says the same in English.
function passwordOf(input) {
  if (input.value.length < input.minLength) throw new Error(t("password.hint"));
  return input.value;
}

export function roleSelect(id, chosen, most = "admin") {
  const roles = ROLES.slice(0, ROLES.indexOf(most) + 1);
  return h("select", { id }, roles.map((role) => h("option", { value: role, selected: role === chosen }, t(`role.${role}`))));
}

export function scopeInputs(prefix, { modalities, labels }) {
  const input = (id, values) => h("input", { id, value: (values || []).join(", "), autocomplete: "off", spellcheck: "false" });
  const modality = input(`${prefix}-modalities`, modalities);
  const label = input(`${prefix}-labels`, labels);
  const words = (text) => {
    const found = text.split(/[\s,]+/).filter(Boolean);
    return found.length ? found : null;
  };
  return {
    fields: [
      field(modality.id, t("scope.only.modalities"), modality, t("scope.hint")),
      field(label.id, t("scope.only.labels"), label, t("scope.hint")),
    ],
    values: () => ({ modalities: words(modality.value.toUpperCase()), labels: words(label.value) }),
  };
}
