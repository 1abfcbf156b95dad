// Buttons of the viewer; they act on the pane that is active.

import { h, icon, replace } from "../core/dom.js";
import { icons } from "../core/icons.js";
import { t } from "../core/i18n.js";
import { href } from "../core/router.js";
import { toastError } from "../core/toast.js";
import { viewerIcons } from "./icons.js";
import { wholeRange } from "./pixels.js";
import { presetsOf } from "./presets.js";
import { TOOLS } from "./tools.js";

const KEYS = { window: "W", scroll: "S", pan: "P", zoom: "Z", measure: "M", probe: "Q" };
const RATES = [1, 2, 5, 10, 15, 20, 25, 30, 60];

export class Toolbar {
  constructor(desk, { name, detail }) {
    this.desk = desk;
    const port = () => desk.active;
    const act = (text, key, shape, run) => h("button.icon", { type: "button", "aria-label": text, title: `${text} (${key})`, onclick: run }, icon(shape));
    this.tools = TOOLS.map((each) => {
      const button = act(t(`view.tool.${each}`), KEYS[each], viewerIcons[each], () => this.choose(each));
      button.dataset.tool = each;
      return button;
    });
    this.invert = act(t("view.invert"), "I", viewerIcons.invert, () => port().set({ isInverted: !port().isInverted }));
    this.presets = h("select.presets", { "aria-label": t("view.preset"), onchange: (event) => this.preset(Number(event.target.value) + 1) });
    this.layout = h("select", { "aria-label": t("view.layout"), onchange: (event) => desk.setLayout(Number(event.target.value)) },
      [1, 2, 4].map((count) => h("option", { value: String(count) }, t(`view.layout.${count}`))));
    this.linked = act(t("view.linked"), "", viewerIcons.linked, () => { desk.isLinked = !desk.isLinked; this.draw(); });
    this.linked.title = t("view.linked");
    this.labels = act(t("view.labels"), "T", viewerIcons.labels, () => this.toggleLabels());
    this.play = act(t("view.play"), "␣", icons.play, () => port().cine.toggle());
    this.rate = h("select.rate", { "aria-label": t("view.rate"), title: t("view.rate"), onchange: (event) => { port().cine.rate = Number(event.target.value); } });
    this.clear = act(t("view.clear"), "Del", viewerIcons.clear, () => port().clearMeasures());
    // Who chose by mouse goes on with the picture: its keys would only turn over the choices.
    for (const select of [this.presets, this.layout, this.rate]) {
      let isByPointer = false;
      select.addEventListener("pointerdown", () => { isByPointer = true; });
      select.addEventListener("keydown", () => { isByPointer = false; });
      select.addEventListener("change", () => isByPointer && port().stage.focus({ preventScroll: true }));
    }
    const bar = h("div.bar", { role: "toolbar", "aria-label": t("view.tools") },
      h("span.group", {}, this.tools, this.clear),
      h("span.group", {}, this.presets, this.invert),
      h("span.group", {},
        act(t("view.rotate"), "R", viewerIcons.rotate, () => port().rotate()),
        act(t("view.flipSideways"), "H", viewerIcons.flipSideways, () => port().flip(false)),
        act(t("view.flipOver"), "V", viewerIcons.flipOver, () => port().flip(true)),
        act(t("view.fit"), "F", viewerIcons.fit, () => port().fit()),
        act(t("view.oneToOne"), "O", viewerIcons.oneToOne, () => port().oneToOne()),
        act(t("view.reset"), "X", viewerIcons.reset, () => port().reset())),
      h("span.group", {}, this.play, this.rate),
      h("span.group", {}, this.layout, this.linked, this.labels,
        act(t("view.full"), "G", viewerIcons.full, () => this.toggleFull()),
        act(t("view.help"), "?", icons.keyboard, () => window.dispatchEvent(new KeyboardEvent("keydown", { key: "?" })))));
    this.element = h("header.viewbar", {},
      h("a.button.icon", { href: href(`/studies/${desk.studyUid}`), "aria-label": t("view.back"), title: t("view.back") }, icon(icons.left)),
      h("div.whose", {}, h("h1", {}, name), h("span.soft", {}, detail), h("span.notice", {}, t("view.notDiagnostic"))), bar);
  }

  choose(tool) {
    this.desk.tool = tool;
    this.draw();
  }

  // Choices of the window: the file's own, then those usual for the modality. Each: {text, window, isChosen}.
  choices() {
    const { shown, window } = this.desk.active;
    if (!shown) return [];
    const { image, samples, tables } = shown;
    const named = ({ name, center, width }, text) => ({ text: text ?? t("view.preset.file", { name: name || `${width} / ${center}` }) });
    const found = [{ text: t("view.preset.default"), window: null }];
    if (samples.kind !== "colour" && !tables.palette) {
      tables.voi.forEach((table, at) => found.push({ text: t("view.preset.file", { name: table.name || t("view.table", { name: String(at + 1) }) }), window: { table: at } }));
      if (image.windows.length + tables.voi.length > 1) for (const each of image.windows) found.push({ ...named(each), window: each });
      for (const each of presetsOf(image)) found.push({ ...named(each, t(`view.preset.${each.name}`)), window: each });
      found.push({ text: t("view.preset.whole"), window: wholeRange(samples) });
    }
    return found.map((each) => ({ ...each, isChosen: isSame(each.window, window) }));
  }

  preset(number) {
    const found = this.choices()[number - 1];
    if (found) this.desk.active.setWindow(found.window);
  }

  toggleLabels() {
    this.desk.hasLabels = !this.desk.hasLabels;
    this.draw();
  }

  toggleFull() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.desk.root.requestFullscreen?.().catch(toastError);
  }

  report(error) {
    toastError(error);
  }

  // At most once a picture of the screen: scrolling changes things more often.
  drawSoon() {
    this.waiting ||= requestAnimationFrame(() => {
      this.waiting = 0;
      this.draw();
    });
  }

  draw() {
    const { desk } = this;
    const port = desk.active;
    if (!port || desk.signal.aborted) return;
    for (const button of this.tools) button.setAttribute("aria-pressed", String(button.dataset.tool === desk.tool));
    this.invert.setAttribute("aria-pressed", String(port.isInverted));
    this.labels.setAttribute("aria-pressed", String(desk.hasLabels));
    this.linked.setAttribute("aria-pressed", String(desk.isLinked));
    this.linked.hidden = desk.ports.length < 2;
    this.layout.value = String(desk.ports.length);
    this.clear.disabled = !port.measuresHere().length;
    desk.panes.classList.toggle("plain", !desk.hasLabels);
    desk.panes.dataset.tool = desk.tool;
    this.drawPlay(port);
    this.drawPresets(port);
  }

  drawPlay(port) {
    const { cine, stack } = port;
    const canPlay = stack?.kind === "image" && stack.images.length > 1;
    this.play.disabled = this.rate.disabled = !canPlay;
    if (this.play.dataset.playing !== String(cine.isPlaying)) {
      this.play.dataset.playing = String(cine.isPlaying);
      this.play.setAttribute("aria-label", t(cine.isPlaying ? "view.pause" : "view.play"));
      replace(this.play, icon(cine.isPlaying ? icons.pause : icons.play));
    }
    const rates = [...new Set([...RATES, cine.currentRate])].sort((one, other) => one - other);
    const state = rates.join();
    if (state !== this.rates) {
      this.rates = state;
      replace(this.rate, rates.map((each) => h("option", { value: String(each) }, `${each} fps`)));
    }
    this.rate.value = String(cine.currentRate);
  }

  drawPresets(port) {
    const choices = this.choices();
    const chosen = choices.findIndex((each) => each.isChosen);
    const texts = choices.map((each) => each.text);
    // A window by hand is none of the list.
    if (choices.length && chosen < 0) texts.push(t("view.preset.own"));
    const state = texts.join("\n");
    if (state !== this.presetTexts) {
      this.presetTexts = state;
      replace(this.presets, texts.map((text, at) => h("option", { value: String(at) }, text)));
    }
    this.presets.disabled = !choices.length;
    this.presets.value = String(chosen < 0 ? choices.length : chosen);
    this.presets.title = port.shown ? port.overlay.windowText() : "";
  }
}

function isSame(one, other) {
  if (!one || !other) return one === other;
  return one.table === other.table && one.center === other.center && one.width === other.width && one.shape === other.shape;
}
