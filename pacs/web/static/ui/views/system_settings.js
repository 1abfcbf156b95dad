// The settings in force. They are changed in the environment or the file .env, not here.

import { json } from "../core/api.js";
import { h, replace } from "../core/dom.js";
import { t } from "../core/i18n.js";
import { bind } from "../core/keys.js";
import { failureBox } from "../core/notice.js";
import { note } from "../core/router.js";

export async function mountSettings(root, { query, signal }) {
  let settings = [];
  const place = h("div", {});
  const search = h("input", { id: "settings-text", type: "search", value: query.get("text") || "", oninput: () => draw() });
  const changed = h("input", { type: "checkbox", checked: query.get("changed") === "1", onchange: () => draw() });
  replace(root, h("p.soft", {}, t("system.settings.lead")),
    h("div.filters", {}, h("div.grow", {}, h("label", { for: "settings-text" }, t("system.settings.text")), search),
      h("label.inline", {}, changed, t("system.settings.changed"))), place);
  bind({ "/": ["system.settings.text", () => search.focus()] }, signal);
  await look();

  async function look() {
    try {
      settings = (await json("settings", { signal })).settings;
      draw();
    } catch (error) {
      if (error.name !== "AbortError") replace(place, failureBox(error, look));
    }
  }

  function draw() {
    const wanted = search.value.trim().toLowerCase();
    note({ tab: "settings", text: search.value.trim(), changed: changed.checked ? "1" : "" });
    const found = settings.filter((each) => (!changed.checked || each.value !== each.default)
      && (!wanted || `${each.name} ${each.description} ${each.value}`.toLowerCase().includes(wanted)));
    const sections = [...new Set(found.map((each) => each.section))];
    replace(place, sections.length
      ? sections.map((section) => h("section.card", {}, h("h2", {}, section), found.filter((each) => each.section === section).map(row)))
      : h("div.card.nothing", {}, t("system.settings.none")));
  }
}

function row(each) {
  return h("div.setting", {},
    h("div", {}, h("span.name", {}, each.name), " = ", each.value === "" ? h("span.soft", {}, t("system.settings.empty")) : h("span.value", {}, each.value), " ",
      each.value !== each.default && h("span.chip.warn", {}, t("system.settings.set"))),
    h("p", { lang: "en" }, each.description),
    each.value !== each.default && h("p", {}, t("system.settings.default", { value: each.default || t("system.settings.empty") })));
}
