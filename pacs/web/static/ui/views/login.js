// Log in with a name and a password, or at an OpenID Connect provider; then on to where one wanted to go (next=).

import { address, json } from "../core/api.js";
import { config } from "../core/config.js";
import { h } from "../core/dom.js";
import { LANGUAGES, chooseLanguage, language, t } from "../core/i18n.js";
import { href } from "../core/router.js";
import { refresh, session } from "../core/session.js";
import texts from "../texts/accounts.js";

const FAILURES = ["away", "denied", "refused", "role", "state"]; // of a log-in at the provider

export default {
  name: "login",
  title: () => t("login.title"),
  texts,
  styles: ["accounts"],
  async mount(root, { query }) {
    const next = target(query.get("next"));
    const failure = h("p.failure", { role: "alert", hidden: true });
    const name = h("input", { id: "login-name", autocomplete: "username", autocapitalize: "none", spellcheck: "false", required: true });
    const password = h("input", { id: "login-password", type: "password", autocomplete: "current-password", required: true });
    const button = h("button.primary", { type: "submit" }, t("login.submit"));
    const form = h("form", {
      onsubmit: async (event) => {
        event.preventDefault();
        button.disabled = true;
        failure.hidden = true;
        try {
          await json("session", { method: "POST", json: { name: name.value, password: password.value } });
          await refresh();
          location.href = next;
        } catch (error) {
          failure.textContent = said(error);
          failure.hidden = false;
          password.select();
          password.focus();
        } finally {
          button.disabled = false;
        }
      },
    }, field("login-name", t("login.name"), name), field("login-password", t("login.password"), password), failure, button);
    const languages = h("select", { "aria-label": t("core.language"), onchange: (event) => chooseLanguage(event.target.value) },
      Object.entries(LANGUAGES).map(([code, label]) => h("option", { value: code, selected: code === language() }, label)));
    const oidc = session.ways.includes("oidc")
      ? h("a.button.primary.oidc", { href: address("session/oidc", { next: next.slice(1) }) }, t("login.oidc")) : null;
    const failed = query.get("failed");
    root.append(h("div.card", {},
      h("h1", {}, h("img", { src: "ui/icon.svg", alt: "", width: "28", height: "28" }), t("core.product")),
      FAILURES.includes(failed) ? h("p.failure", { role: "alert" }, t(`login.failed.${failed}`)) : null,
      oidc,
      oidc && session.ways.includes("password") ? h("p.or", {}, t("login.or")) : null,
      session.ways.includes("password") ? form : oidc ? null : h("p", {}, t("login.none")),
      h("div.languages", {}, languages)));
    if (oidc) oidc.focus();
    else if (session.ways.includes("password")) name.focus();
  },
};

export function field(id, label, control, hint = "") {
  if (hint) control.setAttribute("aria-describedby", `${id}-hint`);
  return h("div.field", {}, h("label", { for: id }, label), control, hint && h("p.soft", { id: `${id}-hint` }, hint));
}

// Only places of this page, and of the viewer: what another site put into the link is not followed.
function target(next) {
  if (next && config.viewer) {
    const [place, viewer] = [next, config.viewer].map((each) => URL.canParse(each, document.baseURI) && new URL(each, document.baseURI).href);
    if (place && place.startsWith(viewer)) return place;
  }
  return next && next.startsWith("/") && !next.startsWith("//") && !next.startsWith("/login") ? `#${next}` : href("/studies");
}

function said(error) {
  if (error.status === 401) return t("login.wrong");
  if (error.status === 429) return t("login.wait");
  return error.status === 0 ? t("core.offline") : error.message || t("core.failed");
}
