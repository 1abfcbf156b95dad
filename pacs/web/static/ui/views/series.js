// One series: its instances in order.

import { ApiError, search } from "../core/api.js";
import { h, replace } from "../core/dom.js";
import { TAGS, date, first } from "../core/dicom.js";
import { t } from "../core/i18n.js";
import { Pictures } from "../list/pictures.js";
import { Rows } from "../list/rows.js";
import { dictionary } from "../study/dictionary.js";
import { drawActions, drawFacts, drawPatient, drawProblem, drawUid, drawWay, patientName, studyRow } from "../study/parts.js";
import studies from "../texts/studies.js";
import texts from "../texts/study.js";

const ROW_PX = 48;
const ASKED = 5000;

export default {
  name: "study",
  title: () => t("study.series"),
  texts: { en: { ...studies.en, ...texts.en }, "zh-Hant": { ...studies["zh-Hant"], ...texts["zh-Hant"] } },
  styles: ["list", "study"],
  async mount(root, { params, signal }) {
    const { study, series } = params;
    const target = { study, series };
    const draw = async () => {
      try {
        await drawSeries(root, target, signal);
      } catch (error) {
        if (error.name === "AbortError") throw error;
        drawProblem(root, error, { ...target, title: series });
      }
    };
    window.addEventListener("archive", ({ detail }) => detail.some((each) => each.study === study) && draw(), { signal });
    await draw();
  },
};

async function drawSeries(root, { study, series }, signal) {
  const path = `studies/${study}/series/${series}`;
  const [row, { rows: found }, instances, names] = await Promise.all([
    studyRow(study, signal),
    search(`studies/${study}/series`, { query: { SeriesInstanceUID: series, includefield: [TAGS.seriesDescription, TAGS.bodyPart, "00080021", "00080070", "00081090"] }, signal }),
    allInstances(path, signal),
    dictionary(),
  ]);
  if (!found.length) throw new ApiError(404, "");
  const [one] = found;
  const name = first(one, TAGS.seriesDescription) || t("study.series.noname");
  document.title = `${name} · ${patientName(row)} · ${t("core.product")}`;
  const pictures = new Pictures();
  const head = h("div.instance.head-row", { role: "row" },
    ["picture", "number", "class", "frames", "size"].map((kind) => h(`div.${kind}`, { role: "columnheader" }, h(kind === "picture" ? "span.unseen" : "span", {}, t(`study.instance.${kind}`)))));
  const space = h("div.space", { role: "rowgroup" });
  const grid = h("div.instances", { role: "table", tabindex: "0", "aria-label": t("study.instances"), "aria-rowcount": String(instances.length + 1) },
    h("div.head-group", { role: "rowgroup" }, head), space);
  replace(root,
    drawWay([[t("nav.studies"), "#/studies"], [patientName(row), `#/studies/${study}`], [name]]),
    h("header.study-head.card", {},
      h("div.top", {}, drawPatient(row), drawActions({ study, series, title: name }, () => (location.hash = `#/studies/${study}`))),
      h("h2", {}, h("span.modality", {}, first(one, TAGS.modality) || "–"), " ", name),
      drawFacts([
        [t("study.series.number"), text(first(one, TAGS.seriesNumber))],
        [t("study.bodypart"), first(one, TAGS.bodyPart)],
        [t("study.date"), date(first(one, "00080021") || first(row, TAGS.studyDate))],
        [t("study.device"), [first(one, "00080070"), first(one, "00081090")].filter(Boolean).join(" ")],
        [t("study.size"), t("studies.images", { n: instances.length })],
        [t("study.uid"), drawUid(series)],
      ])),
    h("h2.part", {}, t("study.instances"), " ", h("span.soft", {}, String(instances.length))),
    grid);
  const rows = new Rows({
    scroller: grid, head: grid.firstChild, space, rowPx: ROW_PX, signal,
    draw: (index) => drawInstance(path, instances[index], index, pictures, names),
    onSettled: () => pictures.show(space.querySelectorAll(".thumb:not(:has(img))")),
  });
  rows.reset(instances.length);
}

const text = (value) => (value === undefined || value === null ? "" : String(value));

async function allInstances(path, signal) {
  const found = [];
  for (let more = true; more; ) {
    const query = { includefield: [TAGS.sopClass, TAGS.numberOfFrames, TAGS.rows, TAGS.columns], limit: ASKED, offset: found.length || null };
    const answer = await search(`${path}/instances`, { query, signal });
    found.push(...answer.rows);
    more = answer.more && answer.rows.length > 0;
  }
  return found.sort((a, b) => (first(a, TAGS.instanceNumber) ?? Infinity) - (first(b, TAGS.instanceNumber) ?? Infinity));
}

function drawInstance(path, row, index, pictures, names) {
  const sop = first(row, TAGS.sopUid);
  const number = first(row, TAGS.instanceNumber);
  const sopClass = first(row, TAGS.sopClass) || "";
  const [rows, columns] = [first(row, TAGS.rows), first(row, TAGS.columns)];
  const cell = (kind, ...content) => h(`div.${kind}`, { role: "cell" }, ...content);
  return h("div.instance", { role: "row", "aria-rowindex": String(index + 2) },
    cell("picture", pictures.place(`${path}/instances/${sop}`)),
    cell("number", h("a", { href: `#/${path}/instances/${sop}` }, number === undefined ? t("study.instance.nonumber") : `#${number}`)),
    cell("class", names.uid(sopClass).replace(/ Storage$/, "") || sopClass),
    cell("frames", text(first(row, TAGS.numberOfFrames))),
    cell("size", rows && columns ? `${columns} × ${rows}` : ""));
}
