// One pane: a stack, which of its frames is shown, and how. Draws into a canvas; text, marks and lines lie over it.

import { h, replace } from "../core/dom.js";
import { t } from "../core/i18n.js";
import { dot, flippedOver, flippedSideways, matrixOf, turned } from "./geometry.js";
import { Overlay } from "./overlay.js";
import { drawPlanes } from "./planes.js";
import { asWindow, paint, windowOf } from "./pixels.js";
import { drawMessage, drawOther } from "./other.js";

const MOST_ZOOM = 40;
const SMOOTH_BELOW = 3; // screen pixels an image pixel; above, pixels are shown as the squares that they are
const AHEAD = 40;
const BEHIND = 12;

export class Viewport {
  // name: of the pane, for those who do not see it. onChange: called when what is shown, or how, is another. signal: of the view.
  constructor(loader, { name, onChange, signal }) {
    this.loader = loader;
    this.onChange = onChange;
    this.signal = signal;
    this.canvas = h("canvas");
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.stage = h("div.stage", { tabindex: "0", role: "img" }, this.canvas);
    this.overlay = new Overlay(this);
    this.slider = h("input.slices", { type: "range", min: "0", step: "1", "aria-orientation": "vertical", "aria-label": t("view.slice"), oninput: (event) => this.go(Number(event.target.value)) });
    this.message = h("div.message", { hidden: true });
    this.other = h("div.other", { hidden: true });
    this.stage.append(this.overlay.element);
    this.element = h("section.port", { "aria-label": name }, this.stage, this.slider, this.message, this.other);
    this.picture = document.createElement("canvas");
    this.stack = null;
    this.isPlaying = false; // by a Cine
    this.index = 0;
    this.shown = null; // {image, samples, tables} that the canvas has
    this.measures = new Map(); // image key → [{from, to}]
    this.direction = 1;
    this.resetView();
    const observer = new ResizeObserver(() => this.resize());
    observer.observe(this.stage);
    signal.addEventListener("abort", () => observer.disconnect());
  }

  resetView() {
    Object.assign(this, { window: null, isInverted: false, scale: null, pan: [0, 0], turn: { turns: 0, flipped: false } });
  }

  get image() {
    return this.stack?.images[this.index] ?? null;
  }

  // Show another stack from frame `index`; null: nothing.
  open(series, stack, index = 0) {
    const isOther = stack !== this.stack;
    Object.assign(this, { series, stack });
    if (isOther) {
      this.resetView();
      this.shown = null;
      this.loader.forget(this);
    }
    const isImage = stack?.kind === "image";
    this.stage.hidden = !isImage;
    this.other.hidden = isImage || !stack;
    this.slider.hidden = !isImage || stack.images.length < 2;
    this.message.hidden = true;
    replace(this.other);
    if (stack && !isImage) drawOther(this.other, this.loader.studyUid, series.uid, stack, this.signal);
    if (isImage) {
      this.slider.max = String(stack.images.length - 1);
      this.go(index, true);
    } else this.onChange(this);
  }

  go(index, isForced = false) {
    if (this.stack?.kind !== "image") return;
    const last = this.stack.images.length - 1;
    const to = Math.min(Math.max(index, 0), last);
    if (to === this.index && !isForced) return;
    if (to !== this.index && !this.isPlaying) this.direction = to > this.index ? 1 : -1;
    this.index = to;
    this.slider.value = String(to);
    this.slider.setAttribute("aria-valuetext", t("view.sliceOf", { at: to + 1, n: last + 1 }));
    const { image } = this;
    this.loader.want(this, image, this.neighbours());
    const found = this.loader.held(image);
    if (found) this.present(image, found);
    else this.fetch(image);
    this.onChange(this);
  }

  async fetch(image) {
    this.element.setAttribute("aria-busy", "true");
    try {
      const found = await this.loader.load(image);
      if (this.image === image) this.present(image, found);
    } catch (error) {
      if (this.signal.aborted || this.image !== image || error.name === "AbortError") return;
      this.fail(image, error);
    }
  }

  fail(image, error) {
    this.element.removeAttribute("aria-busy");
    this.shown = null; // no picture rather than that of another frame
    const words = error.message === "short" ? t("view.short") : error.status === 0 ? t("core.offline") : error.message;
    drawMessage(this.message, t("view.undecodable", { frame: this.index + 1 }), words, this.loader.studyUid, image, () => this.go(this.index, true));
    this.message.hidden = false;
    this.invalidate();
    this.onChange(this);
  }

  // In the order in which they are likely to be wanted.
  neighbours() {
    const { images } = this.stack;
    const found = [];
    for (let step = 1; step <= Math.min(AHEAD, images.length - 1); step += 1) {
      const ahead = this.index + step * this.direction;
      // A film begins again.
      const place = this.isPlaying ? (ahead + images.length) % images.length : ahead;
      if (images[place]) found.push(images[place]);
      const behind = this.index - Math.ceil(step / 3) * this.direction;
      if (step % 3 === 0 && step / 3 <= BEHIND && images[behind]) found.push(images[behind]);
    }
    return found;
  }

  present(image, found) {
    this.element.removeAttribute("aria-busy");
    this.message.hidden = true;
    this.shown = { image, ...found };
    this.invalidate(true);
    this.onChange(this);
  }

  // The window that the picture has; null for colour as it is.
  get currentWindow() {
    return this.shown && windowOf(this.shown.image, this.shown.samples, this.shown.tables, this.window);
  }

  setWindow(window) {
    this.window = window;
    this.invalidate(true);
    this.onChange(this);
  }

  // Drag by CSS pixels: to the right widens, down darkens.
  dragWindow(dx, dy) {
    if (!this.shown) return;
    const { center, width, shape } = asWindow(this.currentWindow, this.shown.tables);
    const range = (this.shown.samples.max ?? 255) - (this.shown.samples.min ?? 0) || 1;
    const step = Math.max(width / 300, range / 4096);
    const least = shape === "LINEAR" ? 1 : range / 4096;
    this.setWindow({ center: center + dy * step, width: Math.max(least, width + dx * step), shape });
  }

  set(change) {
    Object.assign(this, change);
    this.invalidate("isInverted" in change);
    this.onChange(this);
  }

  rotate() {
    this.set({ turn: turned(this.turn, 1) });
  }

  flip(isOver) {
    this.set({ turn: (isOver ? flippedOver : flippedSideways)(this.turn) });
  }

  reset() {
    this.resetView();
    this.invalidate(true);
    this.onChange(this);
  }

  // Which image is shown, also while its pixels are on the way or missing: the one whose place and size apply.
  get drawn() {
    return this.shown?.image ?? this.image;
  }

  get fitScale() {
    const { drawn } = this;
    const size = [drawn.columns, drawn.rows * drawn.aspect];
    if (this.turn.turns % 2) size.reverse();
    return Math.min(this.stage.clientWidth / size[0], this.stage.clientHeight / size[1]) || 1;
  }

  // CSS pixels an image column is wide.
  get currentScale() {
    return this.scale ?? this.fitScale;
  }

  get dpr() {
    return window.devicePixelRatio || 1;
  }

  // [a, b, c, d, e, f] from image pixels to CSS pixels of the stage. The corner lies on a whole pixel of the screen.
  transform() {
    const { drawn, currentScale: scale } = this;
    const [a, b, c, d] = matrixOf(this.turn);
    const matrix = [a * scale, b * scale, c * scale * drawn.aspect, d * scale * drawn.aspect];
    const place = [this.stage.clientWidth / 2 + this.pan[0], this.stage.clientHeight / 2 + this.pan[1]];
    const corner = [0, 1].map((axis) => {
      const at = place[axis] - (matrix[axis] * drawn.columns + matrix[axis + 2] * drawn.rows) / 2;
      return Math.round(at * this.dpr) / this.dpr;
    });
    return [...matrix, ...corner];
  }

  toScreen([x, y]) {
    const [a, b, c, d, e, f] = this.transform();
    return [a * x + c * y + e, b * x + d * y + f];
  }

  toImage([x, y]) {
    const [a, b, c, d, e, f] = this.transform();
    const determinant = a * d - b * c;
    return [(d * (x - e) - c * (y - f)) / determinant, (a * (y - f) - b * (x - e)) / determinant];
  }

  // Zoom by a factor; what lies under `at` (CSS pixels of the stage) stays there.
  zoom(factor, at = [this.stage.clientWidth / 2, this.stage.clientHeight / 2]) {
    if (!this.drawn) return;
    const point = this.toImage(at);
    const fit = this.fitScale;
    const scale = Math.min(Math.max(this.currentScale * factor, Math.min(fit, 1) / 4), Math.max(MOST_ZOOM, fit));
    this.scale = scale;
    const moved = this.toScreen(point);
    this.set({ pan: [this.pan[0] + at[0] - moved[0], this.pan[1] + at[1] - moved[1]] });
  }

  fit() {
    this.set({ scale: null, pan: [0, 0] });
  }

  oneToOne() {
    this.set({ scale: 1 / this.dpr, pan: [0, 0] });
  }

  // The frame of this stack that lies nearest to a place in the patient, for panes that scroll together; else by share.
  follow(other) {
    if (this.stack?.kind !== "image" || this === other || !other.image) return;
    const [mine, theirs] = [this.image, other.image];
    const isSame = mine.depth !== undefined && theirs.depth !== undefined && mine.frameOfReferenceUid && mine.frameOfReferenceUid === theirs.frameOfReferenceUid
      && Math.abs(dot(mine.plane.normal, theirs.plane.normal)) > 0.99;
    if (!isSame) return this.go(Math.round((other.index / Math.max(1, other.stack.images.length - 1)) * (this.stack.images.length - 1)));
    const depth = dot(theirs.plane.position, mine.plane.normal);
    let best = 0;
    this.stack.images.forEach((image, at) => {
      if (Math.abs(image.depth - depth) < Math.abs(this.stack.images[best].depth - depth)) best = at;
    });
    this.go(best);
  }

  resize() {
    this.canvas.width = Math.max(1, Math.round(this.stage.clientWidth * this.dpr));
    this.canvas.height = Math.max(1, Math.round(this.stage.clientHeight * this.dpr));
    this.draw(); // at once: a canvas of another size is empty
  }

  // Draw before the next picture of the screen. arePixels: window or frame changed, not only where it lies.
  invalidate(arePixels = false) {
    this.isPictureOld ||= arePixels;
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.waiting);
    this.waiting = 0;
    if (this.signal.aborted) return;
    const { context, canvas } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (this.shown) {
      if (this.isPictureOld) this.paint();
      const { dpr } = this;
      const matrix = this.transform();
      context.setTransform(...matrix.map((each) => each * dpr));
      context.imageSmoothingEnabled = this.currentScale * dpr < SMOOTH_BELOW;
      context.imageSmoothingQuality = this.currentScale * dpr < 1 ? "medium" : "low";
      context.drawImage(this.picture, 0, 0);
    }
    this.overlay.draw();
  }

  paint() {
    this.isPictureOld = false;
    const { image, samples, tables } = this.shown;
    const { picture } = this;
    if (picture.width !== image.columns || picture.height !== image.rows || !this.pictureData) {
      Object.assign(picture, { width: image.columns, height: image.rows });
      // In main memory: it is only ever written by the processor.
      this.pictureContext = picture.getContext("2d", { alpha: false, willReadFrequently: true });
      this.pictureData = this.pictureContext.createImageData(image.columns, image.rows);
    }
    const out = new Uint32Array(this.pictureData.data.buffer);
    paint(image, samples, tables, this.currentWindow, this.isInverted, out);
    if (!samples.hasPlanes) drawPlanes(tables.planes, image, out);
    this.pictureContext.putImageData(this.pictureData, 0, 0);
  }

  measuresHere() {
    return this.shown ? this.measures.get(this.shown.image.key) ?? [] : [];
  }

  addMeasure(measure) {
    const { key } = this.shown.image;
    this.measures.set(key, [...(this.measures.get(key) ?? []), measure]);
    this.invalidate();
    this.onChange(this);
  }

  clearMeasures() {
    if (this.shown) this.measures.delete(this.shown.image.key);
    this.invalidate();
    this.onChange(this);
  }
}
