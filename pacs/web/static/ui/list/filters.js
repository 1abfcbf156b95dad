// Filters by column: a panel below the search box.

import { h } from "../core/dom.js";
import { t } from "../core/i18n.js";
import { offerKnown } from "../study/labels.js";
import { MODALITIES } from "./asked.js";

const TYPING_MS = 250;

// state: as asked() gives it; changed in place. onChange(): something was.
export function drawFilters(state, onChange, signal) {
  let timer = 0;
  const field = (name, attributes = {}) => {
    const input = h("input", { id: `filter-${name}`, value: state[name], autocomplete: "off", spellcheck: "false", ...attributes });
    input.addEventListener("input", () => {
      state[name] = input.value;
      clearTimeout(timer);
      timer = setTimeout(onChange, TYPING_MS);
    });
    return h("div.field", {}, h("label", { for: input.id }, t(`studies.filter.${name}`)), input);
  };
  signal.addEventListener("abort", () => clearTimeout(timer));
  const known = h("datalist", { id: "filter-labels" });
  const chosen = () => state.modality.split(/[\s,]+/).filter(Boolean);
  const offered = [...new Set([...MODALITIES, ...chosen()])];
  const modalities = h("div.field.wide", { role: "group", "aria-label": t("studies.filter.modality") },
    h("span.caption", { "aria-hidden": "true" }, t("studies.filter.modality")),
    h("div.choices", {}, offered.map((modality) => {
      const button = h("button.choice", { type: "button", "aria-pressed": String(chosen().includes(modality)) }, modality);
      button.addEventListener("click", () => {
        const now = chosen();
        state.modality = (now.includes(modality) ? now.filter((each) => each !== modality) : [...now, modality]).join(",");
        button.setAttribute("aria-pressed", String(chosen().includes(modality)));
        onChange();
      });
      return button;
    })));
  const from = field("from", { type: "date" });
  const to = field("to", { type: "date" });
  const days = h("div.field.wide", { role: "group", "aria-label": t("studies.days") },
    h("span.caption", { "aria-hidden": "true" }, t("studies.days")),
    h("div.choices", {}, [["today", 0, 0], ["yesterday", 1, 1], ["week", 6, 0], ["month", 29, 0], ["year", 364, 0]].map(([name, begin, end]) =>
      h("button.choice", {
        type: "button",
        onclick: () => {
          [state.from, state.to] = [before(begin), before(end)];
          from.querySelector("input").value = state.from;
          to.querySelector("input").value = state.to;
          onChange();
        },
      }, t(`studies.days.${name}`)))));
  const label = field("label", { list: "filter-labels" });
  label.addEventListener("focusin", () => offerKnown(known, signal), { once: true });
  return h("form.filters", { id: "filters", onsubmit: (event) => event.preventDefault() },
    field("name"), field("id"), field("accession"), field("description"), label, known, from, to, days, modalities);
}

// The local day so many days ago, as an input of type date has it.
function before(days) {
  const day = new Date();
  day.setDate(day.getDate() - days);
  return [day.getFullYear(), String(day.getMonth() + 1).padStart(2, "0"), String(day.getDate()).padStart(2, "0")].join("-");
}
