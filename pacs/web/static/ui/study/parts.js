// What the pages of a study, a series, an instance and a patient have in common.

import { request, search } from "../core/api.js";
import { h, icon, replace } from "../core/dom.js";
import { icons } from "../core/icons.js";
import { TAGS, date, first, personName } from "../core/dicom.js";
import { t } from "../core/i18n.js";
import { may, session } from "../core/session.js";
import { sex } from "../list/row.js";
import { download, fullViewer, mayDelete, quickViewer, remove, restore, send, share } from "./actions.js";
import { copy } from "./tags.js";

export const ISSUER = "00100021";

// The study's row, with the patient's attributes. Throws ApiError: 410 when it is deleted, 404 when it never was there.
export async function studyRow(study, signal) {
  const { rows } = await search("studies", { query: { StudyInstanceUID: study, includefield: [TAGS.studyDescription, ISSUER, "00080080", "00080090"] }, signal });
  if (rows.length) return rows[0];
  await request(`studies/${study}/metadata`, { headers: { Accept: "application/dicom+json" }, signal }); // says why
  return {};
}

// The way here: [[text, href], …], the last without href.
export function drawWay(steps) {
  return h("nav.way", { "aria-label": t("study.way") }, h("ol", {}, steps.map(([text, href]) =>
    h("li", {}, href ? h("a", { href }, text) : h("span", { "aria-current": "page" }, text)))));
}

export const patientHref = (row) => {
  const id = first(row, TAGS.patientId);
  const issuer = first(row, ISSUER);
  return id ? `#/patients/${encodeURIComponent(id)}${issuer ? `?issuer=${encodeURIComponent(issuer)}` : ""}` : null;
};

export const patientName = (row) => personName(first(row, TAGS.patientName)) || t("studies.noname");

// "Doe, Jane" over "P1 · 1 Jan 1970 (54 y) · Female".
export function drawPatient(row) {
  const birth = first(row, TAGS.birthDate);
  const years = age(birth, first(row, TAGS.studyDate));
  const facts = [date(birth) && years !== null ? `${date(birth)} (${t("study.age", { n: years })})` : date(birth), sex(first(row, TAGS.sex))];
  const id = first(row, TAGS.patientId);
  return h("div.who", {}, h("h1", {}, patientName(row)),
    h("p.sub", {}, id ? h("span.patient-id", {}, id) : null, facts.filter(Boolean).map((fact) => h("span", {}, fact))));
}

function age(birth, on) {
  if (!/^\d{8}$/.test(birth || "") || !/^\d{8}$/.test(on || "")) return null;
  const years = Math.floor((Number(on) - Number(birth)) / 10000);
  return years >= 0 && years < 150 ? years : null;
}

// [[name, value or node], …] of which those without a value are left out.
export function drawFacts(facts) {
  return h("dl.facts", {}, facts.filter(([, value]) => value).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

export function drawUid(uid) {
  return h("span.uid", {}, h("code", { title: uid }, uid),
    h("button.icon", { type: "button", "aria-label": t("study.copy.of", { name: "UID" }), title: t("study.copy"), onclick: () => copy(uid) }, icon(icons.copy, 14)));
}

// What can be done with a target. onRemoved(): it is gone.
export function drawActions(target, onRemoved) {
  const full = fullViewer(target);
  const button = (shape, text, run) => h("button", { type: "button", onclick: run }, icon(shape, 18), text);
  return h("div.actions", {},
    full ? h("a.button.primary", { href: full }, icon(icons.eye, 18), t("study.viewer.full")) : null,
    h(`a.button${full ? "" : ".primary"}`, { href: quickViewer(target) }, icon(icons.eye, 18), t("study.viewer")),
    session.canDownload !== false && button(icons.download, t("study.download"), () => download([target])),
    may("writer") && !target.series && button(icons.link, t("study.share"), () => share(target)),
    may("writer") && button(icons.send, t("study.send"), () => send([target])),
    mayDelete() && button(icons.trash, t("study.delete"), async () => (await remove([target])) && onRemoved()));
}

// What stands in the view's place when what it shows cannot be had. Errors that are no answer of the archive go on.
export function drawProblem(root, error, target) {
  if (error.status === undefined) throw error;
  const gone = error.status === 410;
  const title = gone ? t("study.gone") : error.status === 404 ? t("study.missing") : error.status === 403 ? t("study.forbidden") : t("core.failed");
  const text = gone ? t("study.gone.text") : error.status === 404 ? t("study.missing.text") : error.status === 0 ? t("core.offline") : error.message;
  const reload = () => location.reload();
  replace(root, h("div.notice", { role: "alert" }, h("h1", {}, title), h("p", {}, text),
    h("p.actions", {},
      gone && mayDelete() ? h("button.primary", { type: "button", onclick: async () => (await restore([target])) && reload() }, icon(icons.undo, 18), t("study.undelete")) : null,
      gone || [403, 404].includes(error.status) ? null : h("button.primary", { type: "button", onclick: reload }, icon(icons.refresh, 18), t("studies.retry")),
      h("a.button", { href: "#/studies" }, t("core.back")))));
}
