// One study: whose, of when, its series, and what can be done with it.

import { search } from "../core/api.js";
import { h, replace } from "../core/dom.js";
import { TAGS, all, date, first, personName, time } from "../core/dicom.js";
import { bind } from "../core/keys.js";
import { t } from "../core/i18n.js";
import { Pictures } from "../list/pictures.js";
import { quickViewer } from "../study/actions.js";
import { drawLabels } from "../study/labels.js";
import { ISSUER, drawActions, drawFacts, drawPatient, drawProblem, drawUid, drawWay, patientHref, patientName, studyRow } from "../study/parts.js";
import studies from "../texts/studies.js";
import texts from "../texts/study.js";

const INCLUDED = [TAGS.seriesDescription, TAGS.bodyPart, "00181030", "0008103E", "00080021"];
const MOST = 5000; // QIDO-RS gives no more in one answer

export default {
  name: "study",
  title: () => t("study.title"),
  texts: { en: { ...studies.en, ...texts.en }, "zh-Hant": { ...studies["zh-Hant"], ...texts["zh-Hant"] } },
  styles: ["list", "study"],
  async mount(root, { params, signal }) {
    const { study } = params;
    const draw = async () => {
      try {
        await drawStudy(root, study, signal);
      } catch (error) {
        if (error.name === "AbortError") throw error;
        drawProblem(root, error, { study, title: study });
      }
    };
    window.addEventListener("archive", ({ detail }) => detail.some((each) => each.study === study) && draw(), { signal });
    bind({ v: ["studies.key.view", () => root.querySelector(".actions .primary")?.click()] }, signal);
    await draw();
  },
};

async function drawStudy(root, study, signal) {
  const [row, { rows: series, more }] = await Promise.all([
    studyRow(study, signal),
    search(`studies/${study}/series`, { query: { includefield: INCLUDED, limit: MOST }, signal }),
  ]);
  const name = patientName(row);
  const target = { study, title: name };
  const labels = h("div.label-row", {});
  const others = h("span", {});
  const heading = first(row, TAGS.studyDescription) || t("study.title");
  document.title = `${name} · ${t("core.product")}`;
  series.sort((a, b) => (first(a, TAGS.seriesNumber) ?? Infinity) - (first(b, TAGS.seriesNumber) ?? Infinity));
  const pictures = new Pictures();
  replace(root,
    drawWay([[t("nav.studies"), "#/studies"], [name]]),
    h("header.study-head.card", {},
      h("div.top", {}, drawPatient(row), drawActions(target, () => {})),
      h("h2", {}, heading),
      drawFacts([
        [t("study.date"), [date(first(row, TAGS.studyDate)), time(first(row, TAGS.studyTime))].filter(Boolean).join(", ")],
        [t("studies.filter.accession"), first(row, TAGS.accession)],
        [t("study.id"), first(row, "00200010")],
        [t("study.referring"), personName(first(row, "00080090"))],
        [t("study.institution"), first(row, "00080080")],
        [t("studies.filter.modality"), all(row, TAGS.modalities).join(", ")],
        [t("study.size"), `${t("studies.series", { n: first(row, TAGS.numberOfStudySeries) ?? 0 })}, ${t("studies.images", { n: first(row, TAGS.numberOfStudyInstances) ?? 0 })}`],
        [t("study.uid"), drawUid(study)],
      ]),
      h("div.foot", {}, labels, others)),
    h("h2.part", {}, t("study.series.all"), " ", h("span.soft", {}, String(series.length))),
    more ? h("p.soft", {}, t("study.more", { n: series.length })) : null,
    h("ul.cards", {}, series.map((each) => drawCard(study, each, pictures))));
  pictures.show(root.querySelectorAll(".thumb"));
  await Promise.all([drawLabels(labels, study, signal), drawOthers(others, row, study, signal)]);
}

function drawCard(study, row, pictures) {
  const series = first(row, TAGS.seriesUid);
  const modality = first(row, TAGS.modality) || "";
  const title = first(row, TAGS.seriesDescription) || first(row, "00181030") || t("study.series.noname");
  const facts = [t("studies.images", { n: first(row, TAGS.numberOfSeriesInstances) ?? 0 }), first(row, TAGS.bodyPart)].filter(Boolean);
  return h("li.card.series", {},
    h("a.look", { href: quickViewer({ study, series }), title: t("studies.view") },
      h("span.unseen", {}, t("studies.view.of", { name: title })), pictures.place(`studies/${study}/series/${series}`, modality)),
    h("div.about", {},
      h("p.sub", {}, h("span.modality", {}, modality || "–"), " ", first(row, TAGS.seriesNumber) === undefined ? "" : `#${first(row, TAGS.seriesNumber)}`),
      h("a.name", { href: `#/studies/${study}/series/${series}` }, title),
      h("p.sub", {}, facts.join(" · "))));
}

// How many other studies the same patient has: the same Patient ID of the same issuer.
async function drawOthers(place, row, study, signal) {
  const id = first(row, TAGS.patientId);
  if (!id) return;
  const { rows } = await search(`patients/${encodeURIComponent(id)}/studies`, { query: { IssuerOfPatientID: first(row, ISSUER), limit: 100 }, signal });
  const others = rows.filter((each) => first(each, TAGS.studyUid) !== study).length;
  if (others) replace(place, h("a", { href: patientHref(row) }, t("study.others", { n: others })));
}
