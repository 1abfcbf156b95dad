// Sharing a study: how long, a link to copy, and the links that work now, each of which can be taken back.

import { json, request } from "./api.js";
import { openDialog } from "./dialog.js";
import { h, icon, replace } from "./dom.js";
import { moment } from "./format.js";
import { icons } from "./icons.js";
import { register, t } from "./i18n.js";
import { stylesheet } from "./router.js";
import { session } from "./session.js";
import { toast } from "./toast.js";
import texts from "../texts/share.js";

register(texts);

const DAYS = [1, 7, 30, 90];
const USUAL = 7;

export async function shareDialog(study, title) {
  await stylesheet("share");
  const failure = h("p.failure", { role: "alert", hidden: true });
  const made = h("div.made", { "aria-live": "polite" });
  const list = h("ul.shares");
  const fail = (error) => {
    failure.textContent = error.status === 0 ? t("core.offline") : error.message || t("core.failed");
    failure.hidden = false;
  };
  const draw = async () => {
    const found = await json("shares", { query: { study } });
    replace(list, found.length ? found.map((share) => row(share, draw, fail)) : h("li.soft", {}, t("share.none")));
  };
  const days = h("select", { id: "share-days" }, DAYS.map((n) => h("option", { value: String(n), selected: n === USUAL }, t("share.days", { n }))));
  const download = h("input", { id: "share-download", type: "checkbox", "aria-describedby": "share-download-hint" });
  const button = h("button.primary", { type: "submit" }, icon(icons.link, 18), t("share.make"));
  const form = h("form", {
    onsubmit: async (event) => {
      event.preventDefault();
      button.disabled = true;
      failure.hidden = true;
      try {
        const share = await json("shares", { method: "POST", json: { study, days: Number(days.value), canDownload: download.checked } });
        link(made, share.url);
        await draw();
      } catch (error) {
        fail(error);
      } finally {
        button.disabled = false;
      }
    },
  },
  h("div.field", {}, h("label", { for: "share-days" }, t("share.days.label")), days),
  h("div.field", {}, h("label.check", { for: "share-download" }, download, t("share.download")), h("p.soft", { id: "share-download-hint" }, t("share.download.hint"))),
  button);
  const body = h("div.share-dialog", {}, h("p", {}, t("share.about")), form, made, failure,
    h("h3", { id: "share-active" }, t("share.active")), list);
  list.setAttribute("aria-labelledby", "share-active");
  draw().catch(fail);
  await openDialog({ title: t("share.title", { title }), body });
}

function link(place, url) {
  const input = h("input", { id: "share-link", readonly: true, value: url, onfocus: (event) => event.target.select() });
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(url);
      toast(t("share.copied"), { kind: "success" });
    } catch {
      input.focus(); // without TLS there is no clipboard but on loopback
      input.select();
      toast(t("share.copy.failed"), { kind: "error" });
    }
  };
  replace(place, h("label", { for: "share-link" }, t("share.link")),
    h("div.line", {}, input, h("button", { type: "button", onclick: copy }, icon(icons.copy, 18), t("share.copy"))));
  input.focus();
}

function row(share, draw, fail) {
  const when = moment(share.expires);
  const facts = [share.canDownload && t("share.files"), share.by !== session.name && t("share.by", { name: share.by })];
  return h("li", {}, h("span", {}, t("share.until", { when }), h("small", {}, facts.filter(Boolean).join(" · "))),
    h("button", {
      type: "button",
      "aria-label": t("share.revoke.of", { when }),
      onclick: async (event) => {
        event.currentTarget.disabled = true;
        try {
          await request(`shares/${share.id}`, { method: "DELETE" });
          toast(t("share.revoked"), { kind: "success" });
          await draw();
        } catch (error) {
          fail(error);
        }
      },
    }, t("share.revoke")));
}
