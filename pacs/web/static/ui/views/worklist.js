// What is to be done today: orders of the modality worklist with their states, and Unified Procedure Steps.

import { json, request, search } from "../core/api.js";
import { confirm } from "../core/dialog.js";
import { TAGS, date, first, personName, time } from "../core/dicom.js";
import { h, icon, replace } from "../core/dom.js";
import { t } from "../core/i18n.js";
import { icons } from "../core/icons.js";
import { bind } from "../core/keys.js";
import { STATES, orderDialog, pathOf, stepOf } from "../core/order.js";
import { href, note } from "../core/router.js";
import { toast, toastError } from "../core/toast.js";
import texts from "../texts/worklist.js";

const LIMIT = 200, RENEWED_MS = 15000, TYPED_MS = 250;
const ANY_STATE = "?*"; // a pattern, so that those of which nothing is left to be done are found too
const STATE = "00400020", STATION = "00400001", START_TIME = "00400003";
const PERFORMED = { date: "00400244", time: "00400245", endTime: "00400251", state: "00400252", steps: "00400270" };
const KINDS = { COMPLETED: ".good", DISCONTINUED: ".bad", CANCELED: ".bad", "IN PROGRESS": ".warn", STARTED: ".warn" };

export default {
  name: "worklist",
  title: () => t("worklist.title"),
  texts,
  styles: ["worklist"],

  async mount(root, { query, signal }) {
    const tab = query.get("tab") === "ups" ? "ups" : "orders";
    const tabs = h("nav.tabs", { "aria-label": t("worklist.tabs") }, ["orders", "ups"].map((name) =>
      h("a", { href: href("/worklist", { tab: name === "ups" ? name : "" }), "aria-current": name === tab ? "page" : null }, t(`worklist.tab.${name}`))));
    const add = tab === "orders" && h("button.primary", { type: "button" }, t("worklist.new"));
    replace(root, h("div.head", {}, h("h1", {}, t("worklist.title")), add), tabs);
    if (tab === "ups") return workitems(root, signal);
    return orders(root, query, add, signal);
  },
};

async function orders(root, query, add, signal) {
  const filter = {
    day: query.get("day") || today(), modality: query.get("modality") || "", station: query.get("station") || "",
    patient: query.get("patient") || "", state: query.get("state") || "",
  };
  const place = h("div", { "aria-live": "polite" });
  let latest = 0, drawn = "";
  // isForced: also while a state is being chosen.
  const look = async (isForced) => {
    const mine = (latest += 1);
    const { day, ...others } = filter;
    note({ ...others, day: day === today() ? "" : day });
    try {
      const found = await asked(filter, signal);
      const key = JSON.stringify([found.rows, found.more, [...found.performed]]);
      if (mine !== latest || (key === drawn && isForced !== true) || (isForced !== true && place.querySelector("select:focus"))) return;
      drawn = key;
      const focus = place.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
      draw(place, found, act);
      if (focus) place.querySelector(`[aria-label="${CSS.escape(focus)}"]`)?.focus();
    } catch (error) {
      if (error.name === "AbortError") return;
      drawn = "";
      replace(place, h("p.failure", { role: "alert" }, error.status === 0 ? t("core.offline") : error.message));
    }
  };
  const act = async (what, said = "") => {
    try {
      if ((await what()) && said) toast(t(said), { kind: "success" });
    } catch (error) {
      toastError(error);
    }
    await look(true);
  };
  const begin = () => act(() => orderDialog(null, { date: filter.day, time: "", modality: filter.modality, station: filter.station }), "worklist.saved");
  add.addEventListener("click", begin);
  bind({ n: ["worklist.new", begin] }, signal);
  root.append(filters(filter, look), place);
  await look();
  const clock = setInterval(() => document.querySelector("dialog[open]") || look(), RENEWED_MS);
  signal.addEventListener("abort", () => clearInterval(clock));
}

function filters(filter, look) {
  let typing = 0;
  const later = () => {
    clearTimeout(typing);
    typing = setTimeout(look, TYPED_MS);
  };
  const text = (name) => h("label", {}, t(`worklist.${name}`),
    h("input", { type: "search", value: filter[name], autocomplete: "off", oninput: (event) => { filter[name] = event.target.value.trim(); later(); } }));
  const day = h("input", { type: "date", value: filter.day, onchange: () => { filter.day = day.value || today(); look(); } });
  const go = (to) => () => {
    filter.day = day.value = to();
    look();
  };
  const states = [["", "open"], [ANY_STATE, "any"]].map(([value, word]) => h("option", { value, selected: filter.state === value }, t(`worklist.${word}`)))
    .concat(STATES.map((value) => h("option", { value, selected: filter.state === value }, t(`worklist.status.${value}`))));
  return h("form.filters", { role: "search", "aria-label": t("worklist.filter"), onsubmit: (event) => event.preventDefault() },
    h("div.days", {},
      h("button.icon", { type: "button", "aria-label": t("worklist.day.before"), onclick: go(() => moved(filter.day, -1)) }, icon(icons.left)),
      h("label", {}, t("worklist.day"), day),
      h("button.icon", { type: "button", "aria-label": t("worklist.day.after"), onclick: go(() => moved(filter.day, 1)) }, icon(icons.right)),
      h("button", { type: "button", onclick: go(today) }, t("worklist.today"))),
    text("patient"), text("modality"), text("station"),
    h("label", {}, t("worklist.state"), h("select", { onchange: (event) => { filter.state = event.target.value; look(); } }, states)));
}

// Orders of a day that fit, and the newest performed step of each study.
async function asked(filter, signal) {
  const step = "ScheduledProcedureStepSequence.";
  const day = filter.day.replace(/-/g, "");
  const isId = /\d/.test(filter.patient);
  const query = {
    [`${step}ScheduledProcedureStepStartDate`]: day,
    [`${step}Modality`]: filter.modality.toUpperCase(),
    [`${step}ScheduledStationAETitle`]: filter.station && `*${filter.station}*`,
    [`${step}ScheduledProcedureStepStatus`]: filter.state,
    PatientName: filter.patient && !isId ? `*${filter.patient.replace(/[\s,]+/g, "*")}*` : "",
    PatientID: isId ? `*${filter.patient}*` : "",
    limit: LIMIT,
  };
  const [found, performed] = await Promise.all([
    search("mwlitems", { query, signal }),
    search("mpps", { query: { PerformedProcedureStepStartDate: day, limit: 1000 }, signal }).catch((error) => {
      if (error.name === "AbortError") throw error;
      return { rows: [] };
    }),
  ]);
  const newest = new Map();
  const began = (row) => first(row, PERFORMED.time) || "";
  for (const row of performed.rows) {
    for (const reference of row[PERFORMED.steps]?.Value || []) {
      const study = first(reference, TAGS.studyUid);
      if (!newest.has(study) || began(newest.get(study)) <= began(row)) newest.set(study, row);
    }
  }
  return { ...found, performed: newest };
}

function draw(place, { rows, more, performed }, act) {
  if (!rows.length) {
    replace(place, h("p.soft", {}, t("worklist.none")));
    return;
  }
  replace(place, h("div.card.list", {}, table(["time", "patient", "procedure", "where", "accession", "state", "actions"], rows.map((item) => row(item, performed, act)))),
    more && h("p.soft", {}, t("worklist.more")));
}

function row(item, performed, act) {
  const step = stepOf(item);
  const name = personName(first(item, TAGS.patientName)) || first(item, TAGS.patientId) || "";
  const what = first(item, "00321060") || first(step, "00400007") || "";
  const state = (first(step, STATE) || "SCHEDULED").toUpperCase();
  const priority = first(item, "00401003");
  const change = (event) => {
    const to = event.target.value;
    act(() => request(`${pathOf(item)}/status/${encodeURIComponent(to)}`, { method: "POST", headers: { Accept: "application/dicom+json" } }));
  };
  const remove = async () => {
    if (!(await confirm(t("worklist.delete.title"), t("worklist.delete.text", { what, name }), t("worklist.delete")))) return false;
    await request(pathOf(item), { method: "DELETE" });
    return true;
  };
  const edit = async () => orderDialog(await json(pathOf(item), { headers: { Accept: "application/dicom+json" } }).then((found) => (Array.isArray(found) ? found[0] : found)));
  return h("tr", {},
    h("td.time", {}, time(first(step, START_TIME)) || "–"),
    h("td", {}, h("span.who", {}, name), h("small", {}, about(item))),
    h("td", {}, what, ["STAT", "HIGH"].includes(priority) && h("small", {}, h("span.chip.warn", {}, t(`worklist.priority.${priority}`)))),
    h("td", {}, [first(step, TAGS.modality), first(step, STATION)].filter(Boolean).join(" · ")),
    h("td", {}, first(item, TAGS.accession) || ""),
    h("td", {}, h("select", { "aria-label": t("worklist.state.of", { name }), onchange: change },
      (STATES.includes(state) ? STATES : [...STATES, state]).map((each) => h("option", { value: each, selected: each === state }, STATES.includes(each) ? t(`worklist.status.${each}`) : each))),
      examination(performed.get(first(item, TAGS.studyUid)))),
    h("td", {}, h("div.actions", {},
      h("button", { type: "button", "aria-label": t("worklist.edit.of", { name }), onclick: () => act(edit, "worklist.saved") }, t("worklist.edit")),
      h("button", { type: "button", "aria-label": t("worklist.delete.of", { name }), onclick: () => act(remove, "worklist.deleted") }, t("worklist.delete")))));
}

function about(item) {
  const birth = first(item, TAGS.birthDate), sex = first(item, TAGS.sex);
  return [first(item, TAGS.patientId), birth && t("worklist.born", { date: date(birth) }), ["F", "M", "O"].includes(sex) && t(`worklist.form.sex.${sex}`)].filter(Boolean).join(" · ");
}

// What the modality said by MPPS.
function examination(step) {
  const state = first(step, PERFORMED.state);
  if (!["IN PROGRESS", "COMPLETED", "DISCONTINUED"].includes(state)) return null;
  const at = state === "IN PROGRESS" ? first(step, PERFORMED.time) : first(step, PERFORMED.endTime) || first(step, PERFORMED.time);
  return h("div", {}, h(`span.chip.performed${KINDS[state]}`, {}, t(`worklist.mpps.${state}`, { time: time(at) })));
}

async function workitems(root, signal) {
  const place = h("div", { "aria-live": "polite" });
  root.append(place);
  const look = async () => {
    const { rows, more } = await search("workitems", { query: { limit: LIMIT, includefield: "all" }, signal });
    if (!rows.length) return replace(place, h("p.soft", {}, t("worklist.none.ups")));
    const moment = (value) => (value ? `${date(String(value).slice(0, 8))} ${time(String(value).slice(8))}` : "");
    return replace(place, h("div.card.list", {}, table(["time", "patient", "procedure", "label", "priority", "state"], rows.map((row) => {
      const state = first(row, "00741000") || "", priority = first(row, "00741200") || "";
      return h("tr", {},
        h("td", {}, moment(first(row, "00404005"))),
        h("td", {}, h("span.who", {}, personName(first(row, TAGS.patientName))), h("small", {}, about(row))),
        h("td", {}, first(row, "00741204") || ""),
        h("td", {}, first(row, "00741202") || ""),
        h("td", {}, priority && (["HIGH", "MEDIUM", "LOW"].includes(priority) ? t(`worklist.priority.${priority}`) : priority)),
        h("td", {}, h(`span.chip${KINDS[state] || ""}`, {}, STATES.includes(state) ? t(`worklist.status.${state}`) : state)));
    }))), more && h("p.soft", {}, t("worklist.more")));
  };
  await look();
  const clock = setInterval(() => look().catch(() => {}), RENEWED_MS);
  signal.addEventListener("abort", () => clearInterval(clock));
}

function table(columns, rows) {
  return h("table", {}, h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, t(`worklist.column.${name}`))))), h("tbody", {}, rows));
}

function today() {
  const now = new Date();
  return `${now.getFullYear()}-${String(now.getMonth() + 1).padStart(2, "0")}-${String(now.getDate()).padStart(2, "0")}`;
}

function moved(day, days) {
  const at = new Date(`${day}T12:00:00Z`);
  at.setUTCDate(at.getUTCDate() + days);
  return at.toISOString().slice(0, 10);
}
