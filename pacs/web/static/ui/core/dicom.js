// Values of DICOM JSON (PS3.18 F) as people read them.

import { language } from "./i18n.js";

export const TAGS = {
  studyDate: "00080020", studyTime: "00080030", accession: "00080050", modality: "00080060", modalities: "00080061",
  studyDescription: "00081030", seriesDescription: "0008103E", patientName: "00100010", patientId: "00100020",
  birthDate: "00100030", sex: "00100040", bodyPart: "00180015", studyUid: "0020000D", seriesUid: "0020000E",
  sopUid: "00080018", sopClass: "00080016", seriesNumber: "00200011", instanceNumber: "00200013",
  numberOfStudySeries: "00201206", numberOfStudyInstances: "00201208", numberOfSeriesInstances: "00201209",
  numberOfFrames: "00280008", rows: "00280010", columns: "00280011",
};

export const first = (row, tag) => row?.[tag]?.Value?.[0];
export const all = (row, tag) => row?.[tag]?.Value ?? [];

// "Doe^Jane" as "Doe, Jane"; with an ideographic form behind it where there is one, or before it in Chinese.
export function personName(value) {
  if (!value) return "";
  const read = (group) => {
    const [family = "", given = "", middle = "", prefix = "", suffix = ""] = (group || "").split("^");
    const names = [given, middle].filter(Boolean).join(" ");
    return [[family, names].filter(Boolean).join(", "), prefix, suffix].filter(Boolean).join(" ");
  };
  const ideographic = (value.Ideographic || "").replace(/\^/g, "").trim();
  const forms = [read(value.Alphabetic), ideographic].filter(Boolean);
  if (language() === "zh-Hant") forms.reverse();
  return forms.length === 2 ? `${forms[0]} (${forms[1]})` : forms[0] || read(value.Phonetic);
}

// DA as a date of the reader's language; what is no date is shown as it is.
export function date(value) {
  const parts = /^(\d{4})(\d{2})(\d{2})$/.exec(value || "");
  if (!parts) return value || "";
  const day = new Date(Date.UTC(+parts[1], +parts[2] - 1, +parts[3]));
  if (dates?.of !== language()) dates = { of: language(), format: new Intl.DateTimeFormat(language(), { dateStyle: "medium", timeZone: "UTC" }) };
  return dates.format.format(day);
}

let dates = null; // costly to make, and asked for in every row of a list

// TM as HH:MM.
export function time(value) {
  const parts = /^(\d{2})(\d{2})/.exec(value || "");
  return parts ? `${parts[1]}:${parts[2]}` : value || "";
}
