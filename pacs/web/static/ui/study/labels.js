// Labels of studies: shown as chips, put on and taken off.

import { json, request } from "../core/api.js";
import { openDialog } from "../core/dialog.js";
import { h, icon, replace } from "../core/dom.js";
import { icons } from "../core/icons.js";
import { t } from "../core/i18n.js";
import { may } from "../core/session.js";
import { toast, toastError } from "../core/toast.js";
import { each } from "./actions.js";

const WORD = /^[\p{L}\p{N}_.:-]{1,64}$/u;

const path = (study, label) => `studies/${study}/labels/${encodeURIComponent(label)}`;

export const chip = (label) => h("span.label", {}, icon(icons.tag, 12), label);

// Labels of one study with what changes them. signal: of the view.
export async function drawLabels(place, study, signal) {
  let labels = await json(`studies/${study}/labels`, { signal });
  const change = async (method, label) => {
    try {
      await request(path(study, label), { method });
      labels = labels.filter((each) => each !== label);
      if (method === "PUT") labels = [...labels, label].sort();
      draw();
    } catch (error) {
      toastError(error);
    }
  };
  const draw = () => {
    const isWriter = may("writer");
    const chips = labels.map((label) => h("li", {}, h("span.label", {}, icon(icons.tag, 12), h("a", { href: `#/studies?label=${encodeURIComponent(label)}` }, label),
      isWriter && h("button.icon", { type: "button", "aria-label": t("study.label.remove", { label }), onclick: () => change("DELETE", label) }, icon(icons.close, 12)))));
    const add = isWriter && h("li", {}, h("button.small.add-label", {
      type: "button",
      onclick: async () => {
        const label = await askLabel(t("study.label.add"));
        if (label) await change("PUT", label);
        place.querySelector(".add-label")?.focus();
      },
    }, icon(icons.tag, 14), t("study.label.add")));
    replace(place, h("ul.labels", { "aria-label": t("study.labels") }, chips, add));
  };
  draw();
}

// Ask for one label and put it on all of these studies. Returns the label, null when it was not done.
export async function labelAll(studies) {
  const label = await askLabel(t("study.label.title", { n: studies.length }));
  if (!label) return null;
  const { done, failures } = await each(studies, (study) => request(path(study, label), { method: "PUT" }));
  failures.forEach(toastError);
  if (done.length) toast(t("study.label.done", { n: done.length, label }), { kind: "success" });
  return done.length ? label : null;
}

async function askLabel(title) {
  const known = h("datalist", { id: "known-labels" });
  const input = h("input", { id: "label", list: "known-labels", maxlength: "64", autocomplete: "off", "aria-describedby": "label-hint", autofocus: true });
  const asked = openDialog({
    title,
    body: [h("label", { for: "label" }, t("study.label")), input, known, h("p.soft.hint", { id: "label-hint" }, t("study.label.hint"))],
    actions: [
      { text: t("core.cancel"), value: null },
      {
        text: t("study.label.put"),
        kind: "primary",
        run: async () => {
          const label = input.value.trim();
          if (!WORD.test(label)) throw new Error(t("study.label.hint"));
          return label;
        },
      },
    ],
  });
  input.focus();
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    input.closest("dialog").querySelector("button.primary").click();
  });
  offerKnown(known);
  return asked;
}

// Labels that some study has, for completion.
export async function offerKnown(datalist, signal) {
  try {
    const found = await json("labels", { signal });
    replace(datalist, Object.keys(found).sort().map((label) => h("option", { value: label })));
  } catch {
    // typing it works as well
  }
}
