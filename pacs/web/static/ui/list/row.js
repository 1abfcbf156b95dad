// One study of the list: a row of a table, or a card on a narrow screen (the sheet decides).

import { h, icon } from "../core/dom.js";
import { icons } from "../core/icons.js";
import { TAGS, all, date, first, personName, time } from "../core/dicom.js";
import { t } from "../core/i18n.js";
import { chip } from "../study/labels.js";
import { fullViewer, quickViewer } from "../study/actions.js";

export const rowId = (index) => `study-${index}`;

// row: of QIDO-RS, null while it comes. onSelect(event): its box was used. picture: place of its thumbnail.
export function drawRow(row, index, { labels = [], isActive, isSelected, onSelect, picture }) {
  const attributes = { id: rowId(index), role: "row", "aria-rowindex": String(index + 2), dataset: { index: String(index) } };
  if (!row) return h("div.row.coming", { ...attributes, "aria-busy": "true" }, h("span.bone", { role: "gridcell" }), h("span.bone", { role: "gridcell" }));
  const study = first(row, TAGS.studyUid);
  const name = personName(first(row, TAGS.patientName)) || t("studies.noname");
  const series = first(row, TAGS.numberOfStudySeries) ?? 0;
  const instances = first(row, TAGS.numberOfStudyInstances) ?? 0;
  const description = first(row, TAGS.studyDescription) || "";
  const cell = (kind, ...content) => h(`div.${kind}`, { role: "gridcell" }, ...content);
  const full = fullViewer({ study });
  return h(`div.row${isActive ? ".active" : ""}${isSelected ? ".selected" : ""}`, { ...attributes, "aria-selected": String(isSelected) },
    cell("box", h("input", { type: "checkbox", tabindex: "-1", checked: isSelected, "aria-label": t("studies.select", { name }), onclick: onSelect })),
    cell("picture", picture),
    cell("patient", h("a.name", { href: `#/studies/${study}`, tabindex: "-1", title: name }, name),
      h("span.sub", {}, [date(first(row, TAGS.birthDate)), sex(first(row, TAGS.sex))].filter(Boolean).join(" · "))),
    cell("id", h("span", { title: first(row, TAGS.patientId) || null }, first(row, TAGS.patientId) || "")),
    cell("when", h("span", {}, date(first(row, TAGS.studyDate))), h("span.sub", {}, time(first(row, TAGS.studyTime)))),
    cell("modalities", all(row, TAGS.modalities).map((modality) => h("span.modality", {}, modality))),
    cell("what", h("span.text", { title: description || null }, description), labels.length ? h("span.labels", {}, labels.map(chip)) : null),
    cell("accession", h("span", { title: first(row, TAGS.accession) || null }, first(row, TAGS.accession) || "")),
    cell("count", h("span", {}, t("studies.images", { n: instances })), h("span.sub", {}, t("studies.series", { n: series }))),
    cell("open", h("a.button.icon", { href: full || quickViewer({ study }), tabindex: "-1", title: t("studies.view"), "aria-label": t("studies.view.of", { name }) }, icon(icons.eye, 18))));
}

export const sex = (value) => (["M", "F", "O"].includes(value) ? t(`studies.sex.${value}`) : value || "");

