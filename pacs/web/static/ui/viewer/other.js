// What is no stack of images: reports, documents, films, curves. Shown as the server renders it, else offered as a file.

import { address, request } from "../core/api.js";
import { h, icon, replace } from "../core/dom.js";
import { icons } from "../core/icons.js";
import { t } from "../core/i18n.js";

const WANTED = "text/html, application/pdf;q=0.9, video/mp4;q=0.9, image/png;q=0.8, text/plain;q=0.7, video/*;q=0.6, */*;q=0.1";

const instancePath = (studyUid, seriesUid, sopUid) => `studies/${studyUid}/series/${seriesUid}/instances/${sopUid}`;

export function fileLink(studyUid, seriesUid, sopUid) {
  return h("a.button", { href: address(instancePath(studyUid, seriesUid, sopUid), { accept: "application/dicom; transfer-syntax=*" }), download: `${sopUid}.dcm` }, icon(icons.download, 18), t("view.download"));
}

// The message that stands where a frame should be.
export function drawMessage(element, title, detail, studyUid, image, retry) {
  replace(element, h("div.card", { role: "alert" }, h("h2", {}, title), h("p", {}, detail), h("p.soft", {}, t("view.undecodableHelp")),
    h("div.actions", {}, h("button", { type: "button", onclick: retry }, icon(icons.refresh, 18), t("view.again")), fileLink(studyUid, image.seriesUid, image.sopUid))));
}

export async function drawOther(element, studyUid, seriesUid, stack, signal) {
  const path = `${instancePath(studyUid, seriesUid, stack.sopUid)}/rendered`;
  replace(element, h("p.soft", { role: "status" }, t("view.loading")));
  let type = "";
  let failure = "";
  try {
    type = await typeOf(path, signal);
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") return;
    failure = error.status === 406 ? "" : error.status === 0 ? t("core.offline") : error.message;
  }
  if (element.hidden || signal.aborted) return;
  const source = address(path, { accept: type });
  const link = () => fileLink(studyUid, seriesUid, stack.sopUid);
  const title = stack.label || t("view.document");
  if (type === "text/html" || type === "text/plain") replace(element, h("iframe", { src: source, title, sandbox: "" }));
  // A sandbox would keep the browser's own reader away; the type is the server's word, and nosniff.
  else if (type === "application/pdf") replace(element, h("iframe", { src: source, title }), h("div.actions", {}, link()));
  else if (type.startsWith("video/")) replace(element, film(source, title, link));
  else if (type.startsWith("image/")) replace(element, h("img", { src: source, alt: title }));
  else replace(element, h("div.card", {}, h("h2", {}, title), h("p", {}, failure || t("view.nothing")), h("div.actions", {}, link())));
}

function film(source, title, link) {
  const video = h("video", { src: source, controls: true, "aria-label": title });
  video.addEventListener("error", () => replace(video.parentElement, h("div.card", { role: "alert" }, h("h2", {}, title), h("p", {}, t("view.noVideo")), h("div.actions", {}, link()))));
  return video;
}

// What the server would send, without reading it.
async function typeOf(path, signal) {
  const leaving = new AbortController();
  const stop = () => leaving.abort();
  signal.addEventListener("abort", stop);
  try {
    const response = await request(path, { headers: { Accept: WANTED }, signal: leaving.signal });
    return (response.headers.get("Content-Type") || "").split(";")[0].trim();
  } finally {
    signal.removeEventListener("abort", stop);
    leaving.abort();
  }
}
