// An order of the worklist as a form: what is in the fields, and the data set that they make (PS3.4 K.6.1.2).

import { request } from "./api.js";
import { first } from "./dicom.js";
import { openDialog } from "./dialog.js";
import { h } from "./dom.js";
import { t } from "./i18n.js";

export const STEPS = "00400100";
export const STATES = ["SCHEDULED", "ARRIVED", "READY", "STARTED", "DEPARTED", "IN PROGRESS", "DISCONTINUED", "COMPLETED", "CANCELED"];
const PRIORITIES = ["STAT", "HIGH", "ROUTINE", "MEDIUM", "LOW"];
const NAME = "00100010", REFERRER = "00080090", STEP_TEXT = "00400007";

// keyword: how the server names it when it is wrong. isStep: of the scheduled procedure step.
const FIELDS = [
  { name: "family", keyword: "PatientName", group: "patient", needed: true, longest: 64 },
  { name: "given", keyword: "PatientName", group: "patient", longest: 64 },
  { name: "ideographic", keyword: "PatientName", group: "patient", longest: 64 },
  { name: "id", tag: "00100020", vr: "LO", keyword: "PatientID", group: "patient", needed: true, longest: 64 },
  { name: "birth", tag: "00100030", vr: "DA", keyword: "PatientBirthDate", group: "patient", type: "date" },
  { name: "sex", tag: "00100040", vr: "CS", keyword: "PatientSex", group: "patient", options: ["F", "M", "O"], words: "form.sex" },
  { name: "procedure", tag: "00321060", vr: "LO", keyword: "RequestedProcedureDescription", group: "order", needed: true, longest: 64, wide: true },
  { name: "modality", tag: "00080060", vr: "CS", keyword: "Modality", group: "order", isStep: true, needed: true, longest: 16, upper: true },
  { name: "station", tag: "00400001", vr: "AE", keyword: "ScheduledStationAETitle", group: "order", isStep: true, needed: true, longest: 16 },
  { name: "date", tag: "00400002", vr: "DA", keyword: "ScheduledProcedureStepStartDate", group: "order", isStep: true, needed: true, type: "date" },
  { name: "time", tag: "00400003", vr: "TM", keyword: "ScheduledProcedureStepStartTime", group: "order", isStep: true, needed: true, type: "time" },
  { name: "accession", tag: "00080050", vr: "SH", keyword: "AccessionNumber", group: "order", longest: 16, hint: true },
  { name: "referrer", keyword: "ReferringPhysicianName", group: "order", longest: 64 },
  { name: "priority", tag: "00401003", vr: "SH", keyword: "RequestedProcedurePriority", group: "order", options: PRIORITIES, words: "priority" },
];

export const stepOf = (item) => first(item, STEPS) || {};
const isoDate = (day) => (/^\d{8}$/.test(day || "") ? `${day.slice(0, 4)}-${day.slice(4, 6)}-${day.slice(6)}` : "");
export const pathOf = (item) => `mwlitems/${encodeURIComponent(first(item, "0020000D"))}/${encodeURIComponent(first(stepOf(item), "00400009"))}`;

// item: null for a new one; given: values for it. Resolves with true when it was saved.
export function orderDialog(item, given = {}) {
  const values = item ? valuesOf(item) : given;
  const inputs = {};
  const fields = (group) => FIELDS.filter((field) => field.group === group).map((field) => {
    const input = (inputs[field.name] = inputOf(field, values[field.name] || ""));
    const hint = field.hint && h("p.hint", { id: `order-${field.name}-hint` }, t(`worklist.form.${field.name}.hint`));
    if (hint) input.setAttribute("aria-describedby", hint.id);
    return h(`div${field.wide ? ".wide" : ""}`, {},
      h("label", { for: input.id }, t(`worklist.form.${field.name}`), field.needed && h("span.needed", { "aria-hidden": "true" }, " *")), input, hint);
  });
  const form = h("form.worklist-form", { novalidate: true, onsubmit: (event) => {
    event.preventDefault();
    event.target.closest("dialog").querySelector("footer .primary").click();
  } },
    ["patient", "order"].map((group) => h("fieldset", {}, h("legend", {}, t(`worklist.form.${group}`)), fields(group))),
    h("button", { type: "submit", hidden: true }));
  const opened = openDialog({
    title: t(item ? "worklist.form.edit" : "worklist.form.new"),
    wide: true,
    body: form,
    actions: [
      { text: t("core.cancel"), value: false },
      { text: t("worklist.form.save"), kind: "primary", run: () => save(item, inputs) },
    ],
  });
  inputs.family.focus();
  return opened;
}

function inputOf(field, value) {
  const common = { id: `order-${field.name}`, "aria-required": field.needed ? "true" : null };
  const clean = (event) => event.target.removeAttribute("aria-invalid");
  if (field.options) {
    const known = !value || field.options.includes(value) ? field.options : [...field.options, value];
    return h("select", { ...common, onchange: clean }, ["", ...known].map((each) =>
      h("option", { value: each, selected: each === value }, each ? worded(`worklist.${field.words}.${each}`, each) : t("worklist.form.unsaid"))));
  }
  return h("input", { ...common, type: field.type || "text", value, maxlength: field.longest ? String(field.longest) : null, autocomplete: "off", oninput: clean });
}

function worded(key, otherwise) {
  const found = t(key);
  return found === key ? otherwise : found;
}

async function save(item, inputs) {
  for (const input of Object.values(inputs)) input.removeAttribute("aria-invalid");
  const values = Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, input.value.trim()]));
  const missing = FIELDS.filter((field) => field.needed && !values[field.name] && !(field.name === "family" && values.ideographic));
  if (missing.length) {
    mark(inputs, missing);
    throw new Error(t("worklist.form.missing", { names: missing.map((field) => t(`worklist.form.${field.name}`)).join(", ") }));
  }
  try {
    await request(item ? pathOf(item) : "mwlitems", {
      method: item ? "PUT" : "POST",
      headers: { Accept: "application/dicom+json", "Content-Type": "application/dicom+json" },
      body: JSON.stringify(dataSet(item, values)),
    });
  } catch (error) {
    if (error.status === 0) throw new Error(t("core.offline"));
    const keyword = (error.parameter || "").split(".").pop();
    const tag = (/\(([0-9A-F]{4}),([0-9A-F]{4})\)/.exec(error.message) || []).slice(1).join(""); // of a value that is no value
    const wrong = FIELDS.filter((field) => field.keyword === keyword || (field.tag && field.tag === tag));
    if (!wrong.length) throw error;
    mark(inputs, wrong.slice(0, 1));
    throw new Error(t("worklist.form.wrong", { name: t(`worklist.form.${wrong[0].name}`), detail: error.message }));
  }
  return true;
}

function mark(inputs, fields) {
  for (const field of fields) inputs[field.name].setAttribute("aria-invalid", "true");
  inputs[fields[0].name].focus();
}

function valuesOf(item) {
  const step = stepOf(item);
  const values = {};
  for (const field of FIELDS) if (field.tag) values[field.name] = String(first(field.isStep ? step : item, field.tag) ?? "");
  const [family = "", given = ""] = (first(item, NAME)?.Alphabetic || "").split("^");
  const said = values.procedure || String(first(step, STEP_TEXT) ?? "");
  const time = values.time.replace(/:/g, "");
  return {
    ...values, family, given, procedure: said,
    ideographic: (first(item, NAME)?.Ideographic || "").replace(/\^/g, ""),
    referrer: first(item, REFERRER)?.Alphabetic || "",
    birth: isoDate(values.birth),
    date: isoDate(values.date.replace(/\./g, "")),
    time: /^\d{4}/.test(time) ? `${time.slice(0, 2)}:${time.slice(2, 4)}` : "",
  };
}

// What is in no field stays as it was.
function dataSet(item, values) {
  const made = { ...(item || { "00080005": { vr: "CS", Value: ["ISO_IR 192"] } }) };
  const step = { ...stepOf(made) };
  const before = item ? valuesOf(item) : {};
  for (const field of FIELDS) {
    if (!field.tag || (item && values[field.name] === before[field.name])) continue;
    const place = field.isStep ? step : made;
    const text = field.upper ? values[field.name].toUpperCase() : values[field.name].replace(field.type ? /[-:]/g : /$^/g, "");
    if (text) place[field.tag] = { vr: field.vr, Value: [text] };
    else if (item) place[field.tag] = { vr: field.vr };
    else delete place[field.tag];
  }
  if (item && values.procedure !== before.procedure) step[STEP_TEXT] = { vr: "LO", Value: [values.procedure] };
  const rest = (first(item, NAME)?.Alphabetic || "").split("^").slice(2);
  const name = { ...(first(item, NAME) || {}), Alphabetic: [values.family, values.given, ...rest].join("^").replace(/\^+$/, "") };
  if (!values.ideographic) delete name.Ideographic;
  else if (values.ideographic !== before.ideographic) name.Ideographic = values.ideographic;
  if (!name.Alphabetic) delete name.Alphabetic;
  made[NAME] = { vr: "PN", Value: [name] };
  if (values.referrer !== (before.referrer || "")) made[REFERRER] = values.referrer ? { vr: "PN", Value: [{ Alphabetic: values.referrer }] } : { vr: "PN" };
  made[STEPS] = { vr: "SQ", Value: [step] };
  return made;
}
