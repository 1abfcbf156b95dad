// What is uploaded now, and what became of each file.

import { search } from "../core/api.js";
import { TAGS, date, first, personName } from "../core/dicom.js";
import { h, icon, replace } from "../core/dom.js";
import { chosen } from "../core/files.js";
import { bytes, number } from "../core/format.js";
import { t } from "../core/i18n.js";
import { icons } from "../core/icons.js";
import { href } from "../core/router.js";
import { uploads } from "../core/upload.js";
import texts from "../texts/upload.js";

const PAGE = 100;
const MOST_STUDIES = 24;
const LIST_MS = 700; // while it goes on, the list is drawn anew no sooner
const ORDER = ["waiting", "sending", "stored", "same", "replaced", "refused", "failed", "skipped", "cancelled"];
const KINDS = { stored: ".good", same: ".good", replaced: ".good", refused: ".bad", failed: ".bad", cancelled: ".warn" };

export default {
  name: "upload",
  title: () => t("upload.title"),
  texts,
  styles: ["upload"],

  async mount(root, { signal }) {
    const shown = { filter: "", page: 0, names: new Map(), chosen: "", at: 0 };
    const parts = { buttons: h("div.buttons"), progress: h("div"), studies: h("section"), list: h("section") };
    replace(root, h("div.head", {}, h("h1", {}, t("upload.title")), parts.buttons), zone(), parts.progress, parts.studies, parts.list);
    const drawn = {};
    const draw = () => {
      // Only what has changed: a button that is drawn anew loses the focus.
      const once = (name, key, make) => {
        if (drawn[name] === key) return;
        drawn[name] = key;
        make();
      };
      const { counts, files } = uploads;
      const key = [uploads.isActive, uploads.paused, Boolean(uploads.hold), files.length > 0, counts.failed + counts.cancelled > 0].join();
      once("buttons", key, () => replace(parts.buttons, buttons(draw)));
      progress(parts.progress);
      once("studies", `${[...uploads.studies].join()} ${shown.names.size}`, () => studies(parts.studies, shown));
      const chosen = `${shown.filter} ${shown.page} ${uploads.isActive}`;
      if (uploads.isActive && chosen === shown.chosen && performance.now() - shown.at < LIST_MS) return;
      Object.assign(shown, { chosen, at: performance.now() });
      once("list", `${ORDER.map((name) => counts[name]).join()} ${chosen}`, () => list(parts.list, shown, draw));
    };
    uploads.addEventListener("change", draw, { signal });
    uploads.addEventListener("end", () => named(shown, signal).then(draw), { signal });
    const clock = setInterval(() => uploads.isActive && draw(), 1000);
    signal.addEventListener("abort", () => clearInterval(clock));
    draw();
    if (!uploads.isActive) named(shown, signal).then(draw);
  },
};

function zone() {
  const input = (attributes) => {
    const element = h("input", { type: "file", multiple: true, hidden: true, onchange: () => {
      uploads.add(chosen(element.files));
      element.value = ""; // the same files may be chosen again
    }, ...attributes });
    return element;
  };
  const files = input({ dataset: { files: "" }, "aria-label": t("upload.files") });
  const folder = input({ webkitdirectory: true, "aria-label": t("upload.folder") });
  return h("div.zone", {}, icon(icons.upload, 40),
    h("p", {}, h("strong", {}, t("upload.zone")), t("upload.zone.more")),
    h("div.buttons", {}, files, folder,
      h("button.primary", { type: "button", onclick: () => files.click() }, t("upload.files")),
      h("button", { type: "button", onclick: () => folder.click() }, t("upload.folder"))));
}

function buttons(draw) {
  const button = (key, shape, run, kind = "") =>
    h(`button${kind}`, { type: "button", onclick: () => { run(); draw(); } }, shape && icon(shape, 18), t(key));
  if (uploads.isActive) {
    return [
      uploads.paused ? button("upload.resume", icons.play, () => uploads.resume(), ".primary") : button("upload.pause", icons.pause, () => uploads.pause()),
      uploads.hold && !uploads.paused ? button("upload.now", icons.refresh, () => uploads.resume()) : null,
      button("upload.cancel", icons.close, () => uploads.cancel()),
    ];
  }
  if (!uploads.files.length) return [];
  return [
    uploads.counts.failed + uploads.counts.cancelled ? button("upload.retry", icons.refresh, () => uploads.retry(), ".primary") : null,
    button("upload.csv", icons.download, saveCsv),
    button("upload.clear", icons.trash, () => uploads.clear()),
  ];
}

function progress(place) {
  if (!uploads.files.length && !uploads.adding) {
    replace(place);
    return;
  }
  if (!place.firstChild) {
    replace(place, h("div.card.progress", {},
      h("div.line", {}, h("span.state", { role: "status" }), h("span.files-done")),
      h("progress", { "aria-label": t("upload.progress") }),
      h("div.line.soft", {}, h("span.bytes-done"), h("span.left"))));
  }
  const set = (selector, text) => {
    const element = place.querySelector(selector);
    if (element.textContent !== text) element.textContent = text;
  };
  const { total } = uploads.bytes;
  const files = uploads.files.length;
  const done = files - uploads.counts.waiting - uploads.counts.sending;
  const sent = uploads.sentBytes;
  const [text, kind] = state();
  place.firstChild.className = `card progress ${kind}`;
  set(".state", text);
  set(".files-done", t("upload.of.files", { done, total: files }));
  set(".bytes-done", t("upload.of.bytes", { done: bytes(sent), total: bytes(total) }));
  const bar = place.querySelector("progress");
  bar.max = Math.max(1, total);
  bar.value = uploads.isActive ? sent : bar.max;
  const rate = uploads.isActive && !uploads.paused ? uploads.rate() : 0;
  set(".left", rate > 0 ? [t("upload.rate", { rate: bytes(rate) }), uploads.adding ? "" : left((total - sent) / rate)].filter(Boolean).join(" · ") : "");
}

function state() {
  const { counts, hold } = uploads;
  const bad = counts.refused + counts.failed;
  if (!uploads.isActive) {
    if (counts.cancelled) return [t("upload.state.cancelled"), "waits"];
    return bad ? [t("upload.state.problems", { n: bad }), "bad"] : [t("upload.state.done"), "good"];
  }
  if (uploads.paused) return [t("upload.state.paused"), "waits"];
  if (hold) return [t(`upload.state.${hold.reason}`, { n: Math.max(1, Math.ceil((hold.until - Date.now()) / 1000)) }), "waits"];
  return [t(uploads.adding && !counts.sending ? "upload.state.looking" : "upload.state.sending"), ""];
}

function left(seconds) {
  if (seconds < 90) return t("upload.left.s", { n: Math.max(1, Math.round(seconds)) });
  if (seconds < 5400) return t("upload.left.min", { n: Math.round(seconds / 60) });
  return t("upload.left.h", { n: Math.round(seconds / 3600) });
}

// Who the studies are of; asked for once, at the end.
async function named(shown, signal) {
  const missing = [...uploads.studies.keys()].filter((uid) => !shown.names.has(uid)).slice(0, MOST_STUDIES);
  if (!missing.length) return;
  try {
    const { rows } = await search("studies", { query: { StudyInstanceUID: missing.join(","), limit: missing.length }, signal });
    for (const row of rows) shown.names.set(first(row, TAGS.studyUid), row);
  } catch {
    // their UIDs are shown
  }
}

function studies(place, shown) {
  if (!uploads.studies.size) {
    replace(place);
    return;
  }
  const found = [...uploads.studies].slice(0, MOST_STUDIES).map(([uid, count]) => {
    const row = shown.names.get(uid);
    const what = row ? [date(first(row, TAGS.studyDate)), (row[TAGS.modalities]?.Value || []).join(" "), first(row, TAGS.studyDescription)].filter(Boolean).join(" · ") : "";
    return h("li", {}, h("a", { href: href(`/studies/${uid}`) },
      h("span.who", {}, (row && personName(first(row, TAGS.patientName))) || uid),
      h("span.soft", {}, [what, t("upload.studies.files", { n: count })].filter(Boolean).join(" · "))));
  });
  const more = uploads.studies.size - found.length;
  replace(place, h("h2", {}, t("upload.studies")), h("ul.studies", {}, found), more > 0 && h("p.soft", {}, t("upload.studies.more", { n: more })));
}

function list(place, shown, draw) {
  const { files, counts } = uploads;
  if (!files.length) {
    replace(place);
    return;
  }
  const focus = place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const fitting = shown.filter ? files.filter((file) => file.state === shown.filter) : files;
  const pages = Math.max(1, Math.ceil(fitting.length / PAGE));
  shown.page = Math.min(shown.page, pages - 1);
  const from = shown.page * PAGE;
  const some = fitting.slice(from, from + PAGE);
  const choose = (name) => h("button", {
    type: "button",
    "aria-pressed": String(shown.filter === name),
    dataset: { key: `filter-${name}` },
    onclick: () => { Object.assign(shown, { filter: name, page: 0 }); draw(); },
  }, name ? t(`upload.result.${name}`) : t("upload.all"), h("span.count", {}, number(name ? counts[name] : files.length)));
  const turn = (key, shape, by, isOff) => h("button.icon", {
    type: "button",
    "aria-label": t(key),
    disabled: isOff,
    dataset: { key },
    onclick: () => { shown.page += by; draw(); },
  }, icon(shape));
  replace(place, h("h2", {}, t("upload.list")),
    h("div.filters", { role: "group", "aria-label": t("upload.filter") }, choose(""), ORDER.filter((name) => counts[name] || shown.filter === name).map(choose)),
    h("table.files", {},
      h("thead", {}, h("tr", {}, h("th", {}, t("upload.column.name")), h("th.number", {}, t("upload.column.size")), h("th", {}, t("upload.column.result")))),
      h("tbody", {}, some.length ? some.map(row) : h("tr", {}, h("td.soft", { colspan: "3" }, t("upload.none"))))),
    pages > 1 && h("div.pager", {},
      h("span.soft", {}, t("upload.range", { from: from + 1, to: from + some.length, total: fitting.length })),
      turn("upload.previous", icons.left, -1, shown.page === 0),
      turn("upload.next", icons.right, 1, shown.page === pages - 1)));
  if (focus) place.querySelector(`[data-key="${CSS.escape(focus)}"]`)?.focus();
}

function row(file) {
  const why = reason(file);
  return h("tr", {}, h("td.name", {}, file.name), h("td.number.size", {}, bytes(file.size)),
    h("td", {}, h(`span.chip${KINDS[file.state] || ""}`, {}, t(`upload.result.${file.state}`)),
      why && h("span.why", {}, why), file.comment && h("small.why", { lang: "en" }, file.comment)));
}

// Why, in words: failure reasons of PS3.18 Table I.2-2.
function reason({ code, reason: word }) {
  if (word) return t(`upload.reason.${word}`);
  if (!code) return "";
  const key = ["", code, code.slice(0, 2), code.slice(0, 1)].slice(1).map((part) => `upload.code.${part}`).find((name) => t(name) !== name);
  return t(key || "upload.code.other", { code });
}

function saveCsv() {
  const lines = [["file", "bytes", "result", "reason", "code", "comment", "study", "sop"]];
  for (const file of uploads.files) {
    lines.push([file.name, file.size, t(`upload.result.${file.state}`), reason(file), file.code, file.comment, file.study, file.sop]);
  }
  const text = lines.map((line) => line.map(cell).join(",")).join("\r\n");
  const link = h("a", { href: URL.createObjectURL(new Blob(["\ufeff", text, "\r\n"], { type: "text/csv" })), download: "upload.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// A spreadsheet must take a file's name for a text, never for a formula.
function cell(value) {
  const text = String(value);
  return `"${(/^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
}
