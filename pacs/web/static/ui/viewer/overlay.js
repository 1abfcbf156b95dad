// What lies over the picture: who and what it is, the sides of the patient, a scale, measured lengths.

import { date, first, personName, TAGS, time } from "../core/dicom.js";
import { h, replace } from "../core/dom.js";
import { language, t } from "../core/i18n.js";
import { lengthOf, lettersOf } from "./geometry.js";
import { probe } from "./pixels.js";

const SVG = "http://www.w3.org/2000/svg";
const SCALES_MM = [1, 2, 5, 10, 20, 50, 100, 200];

const figures = (value, digits = 1) => new Intl.NumberFormat(language(), { maximumFractionDigits: digits }).format(value);

export class Overlay {
  constructor(port) {
    this.port = port;
    this.corners = Object.fromEntries(["who", "what", "how", "where"].map((name) => [name, h(`div.corner.${name}`)]));
    this.sides = Object.fromEntries(["left", "right", "top", "bottom"].map((name) => [name, h(`div.side.${name}`)]));
    this.scaleText = h("span");
    this.scaleBar = h("div.bar");
    this.scale = h("div.scale", {}, this.scaleBar, this.scaleText);
    this.lines = document.createElementNS(SVG, "svg");
    this.lines.setAttribute("class", "lines");
    this.lines.setAttribute("aria-hidden", "true");
    this.element = h("div.overlay", {}, this.lines, Object.values(this.corners), Object.values(this.sides), this.scale);
    this.pointer = null; // of a mouse or finger over the picture, CSS pixels of the stage
    this.written = "";
  }

  draw() {
    const { port } = this;
    const image = port.drawn;
    if (!image || port.stack?.kind !== "image") return;
    this.writeCorners(image);
    const letters = lettersOf(image, port.turn);
    for (const [side, element] of Object.entries(this.sides)) if (element.textContent !== letters[side]) element.textContent = letters[side];
    this.drawScale(image);
    this.drawLines();
  }

  writeCorners(image) {
    const { port } = this;
    const row = image.attributes;
    const shownIndex = port.shown ? port.stack.images.indexOf(port.shown.image) : port.index;
    const total = port.stack.images.length;
    const texts = {
      who: [personName(first(row, TAGS.patientName)), [first(row, TAGS.patientId), date(first(row, TAGS.birthDate)), first(row, TAGS.sex)].filter(Boolean).join(" · ")],
      what: [first(row, TAGS.studyDescription), [date(first(row, TAGS.studyDate)), time(first(row, TAGS.studyTime))].filter(Boolean).join(" "), first(row, TAGS.seriesDescription), ],
      how: [this.probeText(), this.windowText(), this.zoomText(), image.lossy ? (image.lossy === true ? t("view.lossy") : t("view.lossyRatio", { ratio: figures(image.lossy) })) : ""],
      where: [
        [image.modality, row[TAGS.seriesNumber]?.Value ? t("view.seriesNumber", { number: String(first(row, TAGS.seriesNumber)) }) : ""].filter(Boolean).join(" · "),
        t(total > 1 ? "view.imageOf" : "view.image", { at: String(shownIndex + 1), n: String(total), number: image.instanceNumber === undefined ? "–" : String(image.instanceNumber) }),
        image.plane?.position && image.depth !== undefined ? t("view.position", { mm: figures(image.depth) }) : "",
        image.thickness ? t("view.thickness", { mm: figures(image.thickness, 2) }) : "",
      ],
    };
    const state = JSON.stringify(texts);
    if (state === this.written) return;
    this.written = state;
    for (const [name, lines] of Object.entries(texts)) replace(this.corners[name], lines.filter(Boolean).map((line) => h("div", {}, line)));
    port.stage.setAttribute("aria-label", [texts.where[1], texts.what.at(-1), texts.how[1]].filter(Boolean).join(", "));
  }

  windowText() {
    const { port } = this;
    const window = port.currentWindow;
    const inverted = port.isInverted ? ` · ${t("view.inverted")}` : "";
    if (!window) return port.isInverted ? t("view.inverted") : "";
    if (window.table !== undefined) return t("view.table", { name: port.shown.tables.voi[window.table].name || String(window.table + 1) }) + inverted;
    const digits = window.width < 20 ? 3 : 0;
    return t("view.window", { width: figures(window.width, digits), center: figures(window.center, digits) }) + inverted;
  }

  zoomText() {
    return t("view.zoom", { percent: figures(this.port.currentScale * this.port.dpr * 100, 0) });
  }

  probeText() {
    const { port, pointer } = this;
    if (!pointer || !port.shown) return "";
    const { image, samples, tables } = port.shown;
    const [x, y] = port.toImage(pointer).map(Math.floor);
    const found = probe(image, samples, tables, x, y);
    if (!found) return "";
    const value = found.rgb ? `RGB ${found.rgb.join(", ")}` : `${figures(found.value, 3)} ${image.unit}`.trim();
    return `(${x + 1}, ${y + 1}) ${value}`;
  }

  // How long some round number of millimetres is, where the size of pixels is known.
  drawScale(image) {
    const { port } = this;
    const isSideways = port.turn.turns % 2 === 1;
    const mm = image.spacing && (isSideways ? image.spacing.row / image.aspect : image.spacing.column);
    const room = port.stage.clientWidth / 4;
    const fitting = mm ? SCALES_MM.filter((each) => (each / mm) * port.currentScale <= room).at(-1) : undefined;
    this.scale.hidden = !fitting;
    if (!fitting) return;
    this.scaleBar.style.width = `${(fitting / mm) * port.currentScale}px`;
    this.scaleText.textContent = `${figures(fitting, 0)} mm`;
  }

  drawLines() {
    const { port } = this;
    const all = [...port.measuresHere(), port.drawing].filter(Boolean);
    const parts = [];
    for (const measure of all) {
      const [from, to] = [port.toScreen(measure.from), port.toScreen(measure.to)];
      const ends = { x1: from[0], y1: from[1], x2: to[0], y2: to[1] };
      parts.push(shape("line", { ...ends, class: "halo" }), shape("line", { ...ends, class: "length" }));
      for (const [x, y] of [from, to]) parts.push(shape("circle", { cx: x, cy: y, r: 5, class: "end" }));
      const isRight = to[0] >= from[0];
      const text = shape("text", { x: to[0] + (isRight ? 10 : -10), y: to[1] + 4, "text-anchor": isRight ? "start" : "end" });
      text.textContent = lengthText(port.drawn, measure);
      parts.push(text);
    }
    this.lines.replaceChildren(...parts);
  }
}

export function lengthText(image, { from, to }) {
  const { value, unit, source } = lengthOf(image, from, to);
  if (unit === "px") return t("view.lengthPixels", { value: figures(value) });
  return source === "patient" ? t("view.length", { value: figures(value) }) : t("view.lengthBy", { value: figures(value), source: t(`view.spacing.${source}`) });
}

function shape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [each, value] of Object.entries(attributes)) element.setAttribute(each, String(value));
  return element;
}
