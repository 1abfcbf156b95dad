// One patient: all studies with the same Patient ID (and issuer, where the address names one), newest first.

import { ApiError, search } from "../core/api.js";
import { h, replace } from "../core/dom.js";
import { TAGS, all, date, first, time } from "../core/dicom.js";
import { t } from "../core/i18n.js";
import { Pictures } from "../list/pictures.js";
import { drawPatient, drawProblem, drawWay, patientName } from "../study/parts.js";
import studies from "../texts/studies.js";
import texts from "../texts/study.js";

const MOST = 500;

export default {
  name: "study",
  title: () => t("study.patient"),
  texts: { en: { ...studies.en, ...texts.en }, "zh-Hant": { ...studies["zh-Hant"], ...texts["zh-Hant"] } },
  styles: ["list", "study"],
  async mount(root, { params, query, signal }) {
    const draw = async () => {
      try {
        await drawPatientStudies(root, params.patient, query.get("issuer"), signal);
      } catch (error) {
        if (error.name === "AbortError") throw error;
        drawProblem(root, error, {});
      }
    };
    window.addEventListener("archive", draw, { signal });
    await draw();
  },
};

async function drawPatientStudies(root, patient, issuer, signal) {
  const query = { IssuerOfPatientID: issuer, includefield: TAGS.studyDescription, orderby: "-StudyDate", limit: MOST };
  const { rows, more } = await search(`patients/${encodeURIComponent(patient)}/studies`, { query, signal });
  if (!rows.length) throw new ApiError(404, "");
  document.title = `${patientName(rows[0])} · ${t("core.product")}`;
  const pictures = new Pictures();
  replace(root,
    drawWay([[t("nav.studies"), "#/studies"], [patientName(rows[0])]]),
    h("header.study-head.card", {}, drawPatient(rows[0])),
    h("h2.part", {}, t("nav.studies"), " ", h("span.soft", {}, String(rows.length))),
    more ? h("p.soft", {}, t("study.more", { n: rows.length })) : null,
    h("ul.cards", {}, rows.map((row) => {
      const study = first(row, TAGS.studyUid);
      const facts = [t("studies.series", { n: first(row, TAGS.numberOfStudySeries) ?? 0 }), t("studies.images", { n: first(row, TAGS.numberOfStudyInstances) ?? 0 }), first(row, TAGS.accession)];
      return h("li.card.series", {},
        pictures.place(`studies/${study}`, all(row, TAGS.modalities)[0] || ""),
        h("div.about", {},
          h("p.sub", {}, all(row, TAGS.modalities).map((each) => h("span.modality", {}, each)), " ", date(first(row, TAGS.studyDate)), " ", time(first(row, TAGS.studyTime))),
          h("a.name", { href: `#/studies/${study}` }, first(row, TAGS.studyDescription) || t("study.title")),
          h("p.sub", {}, facts.filter(Boolean).join(" · "))));
    })));
  pictures.show(root.querySelectorAll(".thumb"));
}
