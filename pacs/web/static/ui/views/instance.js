// One instance: its picture and all of its attributes.

import { address, request } from "../core/api.js";
import { h, icon, replace } from "../core/dom.js";
import { icons } from "../core/icons.js";
import { TAGS, first } from "../core/dicom.js";
import { t } from "../core/i18n.js";
import { may } from "../core/session.js";
import { fullViewer, mayDelete, pathOf, remove, send } from "../study/actions.js";
import { dictionary } from "../study/dictionary.js";
import { drawFacts, drawPatient, drawProblem, drawUid, drawWay, patientName } from "../study/parts.js";
import { drawTags } from "../study/tags.js";
import studies from "../texts/studies.js";
import texts from "../texts/study.js";

export default {
  name: "study",
  title: () => t("study.instance"),
  texts: { en: { ...studies.en, ...texts.en }, "zh-Hant": { ...studies["zh-Hant"], ...texts["zh-Hant"] } },
  styles: ["list", "study"],
  async mount(root, { params, signal }) {
    const target = { study: params.study, series: params.series, sop: params.instance };
    const draw = async () => {
      try {
        await drawInstance(root, target, signal);
      } catch (error) {
        if (error.name === "AbortError") throw error;
        drawProblem(root, error, { ...target, title: target.sop });
      }
    };
    window.addEventListener("archive", ({ detail }) => detail.some(({ study }) => study === target.study) && draw(), { signal });
    await draw();
  },
};

async function drawInstance(root, target, signal) {
  const path = pathOf(target);
  const [response, names] = await Promise.all([
    request(`${path}/metadata`, { headers: { Accept: "application/dicom+json" }, signal }),
    dictionary(),
  ]);
  const [metadata] = await response.json();
  const { study, series, sop } = target;
  const number = first(metadata, TAGS.instanceNumber);
  const name = number === undefined ? t("study.instance") : t("study.instance.of", { n: String(number) });
  const seriesName = first(metadata, TAGS.seriesDescription) || t("study.series.noname");
  const titled = { ...target, title: name };
  const [rows, columns] = [first(metadata, TAGS.rows), first(metadata, TAGS.columns)];
  document.title = `${name} · ${patientName(metadata)} · ${t("core.product")}`;
  const tags = h("section.tags.card", { "aria-label": t("study.tags") });
  const full = fullViewer(target);
  const viewer = `#/view/${study}?series=${series}&instance=${sop}`;
  replace(root,
    drawWay([[t("nav.studies"), "#/studies"], [patientName(metadata), `#/studies/${study}`], [seriesName, `#/studies/${study}/series/${series}`], [name]]),
    h("div.split", {},
      h("aside.card", {},
        drawPatient(metadata),
        h("a.preview", { href: viewer }, h("span.unseen", {}, t("studies.view")), drawPreview(path, first(metadata, TAGS.modality))),
        drawFacts([
          [t("study.instance.class"), names.uid(first(metadata, TAGS.sopClass)) || first(metadata, TAGS.sopClass)],
          [t("study.instance.frames"), first(metadata, TAGS.numberOfFrames) === undefined ? "" : String(first(metadata, TAGS.numberOfFrames))],
          [t("study.instance.size"), rows && columns ? `${columns} × ${rows}` : ""],
          [t("study.uid"), drawUid(sop)],
        ]),
        h("div.actions", {},
          full ? h("a.button", { href: full }, icon(icons.eye, 18), t("study.viewer.full")) : null,
          h("a.button.primary", { href: viewer }, icon(icons.eye, 18), t("study.viewer")),
          h("a.button", { href: address(path, { accept: "application/dicom" }), download: `${sop}.dcm` }, icon(icons.download, 18), t("study.download.file")),
          may("writer") && h("button", { type: "button", onclick: () => send([titled]) }, icon(icons.send, 18), t("study.send")),
          mayDelete() && h("button", {
            type: "button",
            onclick: async () => (await remove([titled])) && (location.hash = `#/studies/${study}/series/${series}`),
          }, icon(icons.trash, 18), t("study.delete")))),
      tags));
  await drawTags(tags, metadata, signal);
}

function drawPreview(path, modality) {
  const place = h("span.thumb", {}, h("span.word", { "aria-hidden": "true" }, modality || ""));
  const image = h("img", { src: address(`${path}/rendered`, { accept: "image/jpeg", viewport: "512,512" }), alt: "" });
  image.addEventListener("error", () => image.remove()); // what is no picture has its modality there
  place.append(image);
  return place;
}
