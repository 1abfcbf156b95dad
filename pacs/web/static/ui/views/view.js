// The quick viewer: a first look at a study in the browser. State that is worth a link is kept in the address.

import { json, search } from "../core/api.js";
import { first, personName, TAGS, date } from "../core/dicom.js";
import { h, replace } from "../core/dom.js";
import { t } from "../core/i18n.js";
import { note } from "../core/router.js";
import texts from "../texts/view.js";
import { Cine } from "../viewer/cine.js";
import { bindKeys } from "../viewer/keyboard.js";
import { Loader } from "../viewer/loader.js";
import { seriesOf, stacksOf } from "../viewer/stack.js";
import { Strip } from "../viewer/strip.js";
import { Toolbar } from "../viewer/toolbar.js";
import { bindTools } from "../viewer/tools.js";
import { Viewport } from "../viewer/viewport.js";

const NO_PICTURES = ["SR", "PR", "KO", "DOC", "SEG", "RTSTRUCT", "RTPLAN", "RTRECORD", "REG", "FID", "OT", "AU", "ECG", "HD"];
const NOTED_AFTER_MS = 300;

class Desk {
  constructor(root, { params, query, signal }) {
    Object.assign(this, { root, signal, studyUid: params.study, query });
    this.loader = new Loader(params.study, signal);
    this.isTouch = matchMedia("(pointer: coarse)").matches;
    this.tool = this.isTouch ? "scroll" : "window";
    this.isLinked = true;
    this.hasLabels = true;
    this.ports = [];
    this.active = null;
  }

  async start() {
    const { signal } = this;
    const { rows } = await search(`studies/${this.studyUid}/series`, { signal, query: { includefield: ["StudyDescription", "SeriesDescription", "PatientName"], limit: 1000 } });
    if (!rows.length) throw new Error(t("view.empty"));
    this.series = rows.map(seriesOf).sort((one, other) => (one.number ?? Infinity) - (other.number ?? Infinity) || (one.uid < other.uid ? -1 : 1));
    const name = personName(first(rows[0], TAGS.patientName)) || first(rows[0], TAGS.patientId) || "";
    document.title = [name, t("view.title")].filter(Boolean).join(" · ");
    this.toolbar = new Toolbar(this, { name, detail: [date(first(rows[0], TAGS.studyDate)), first(rows[0], TAGS.studyDescription)].filter(Boolean).join(" · ") });
    this.strip = new Strip(this);
    this.panes = h("div.panes");
    replace(this.root, this.toolbar.element, h("div.desk", {}, this.strip.element, this.panes));
    this.setLayout(1);
    bindKeys(this, signal);
    const wanted = this.series.find((each) => each.uid === this.query.get("series"))
      ?? this.series.find((each) => !NO_PICTURES.includes(each.modality)) ?? this.series[0];
    await this.openSeries(wanted, this.active, this.query);
  }

  // Stacks of a series, read once. Throws ApiError.
  async stacksOf(series) {
    series.loading ??= this.read(series).catch((error) => {
      series.loading = null;
      throw error;
    });
    return series.loading;
  }

  async read(series) {
    const path = `studies/${this.studyUid}/series/${series.uid}`;
    const instances = await json(`${path}/metadata`, { signal: this.signal, headers: { Accept: "application/dicom+json" } });
    // Only where it matters: whether colours come as they are, and whether frames are a film.
    const needsSyntax = instances.some((each) => (first(each, "00280002") ?? 1) > 1);
    const syntaxes = new Map();
    if (needsSyntax) {
      const { rows } = await search(`${path}/instances`, { signal: this.signal, query: { includefield: "00083002", limit: instances.length } });
      for (const row of rows) syntaxes.set(first(row, TAGS.sopUid), first(row, "00083002") ?? "");
    }
    series.stacks = stacksOf(instances, syntaxes);
    this.strip.draw();
    return series.stacks;
  }

  // query: {instance, frame} of a link, as URLSearchParams; the whole series without.
  async openSeries(series, port = this.active, query = new URLSearchParams(), stackKey = null) {
    port.element.setAttribute("aria-busy", "true");
    port.wanted = series;
    this.strip.draw();
    try {
      const stacks = await this.stacksOf(series);
      if (this.signal.aborted || port.wanted !== series) return;
      const [sopUid, frame] = [query.get("instance"), Number(query.get("frame")) || 1];
      let stack = stacks.find((each) => each.key === stackKey) ?? null;
      let index = 0;
      if (sopUid) {
        for (const each of stacks) {
          const at = each.images.findIndex((image) => image.sopUid === sopUid && image.frame === frame);
          if (at >= 0 || each.key === sopUid) [stack, index] = [each, Math.max(0, at)];
        }
      }
      stack ??= stacks.find((each) => each.kind === "image") ?? stacks[0];
      port.open(series, stack, index);
      this.strip.draw();
      this.strip.reveal();
    } finally {
      if (port.stack?.kind !== "image") port.element.removeAttribute("aria-busy");
    }
  }

  setLayout(count) {
    while (this.ports.length < count) this.addPort();
    while (this.ports.length > count) {
      const port = this.ports.pop();
      port.cine.stop();
      port.open(null, null);
      this.loader.forget(port);
      port.element.remove();
    }
    this.panes.dataset.count = String(count);
    if (!this.ports.includes(this.active)) this.activate(this.ports[0]);
    const empty = this.ports.filter((port) => !port.stack && !port.wanted);
    const free = this.series.filter((each) => !this.ports.some((port) => port.wanted === each) && !NO_PICTURES.includes(each.modality));
    if (this.ports.length > 1) empty.forEach((port, at) => free[at] && this.openSeries(free[at], port).catch(this.report));
    this.toolbar.draw();
  }

  report = (error) => {
    if (error.name !== "AbortError") this.toolbar.report(error);
  };

  addPort() {
    const port = new Viewport(this.loader, { name: t("view.pane", { n: this.ports.length + 1 }), signal: this.signal, onChange: (changed) => this.changed(changed) });
    port.cine = new Cine(port, { signal: this.signal, onChange: () => this.toolbar.draw() });
    bindTools(port, { tool: () => this.tool, onActive: () => this.activate(port), onScroll: (step) => this.scroll(step, port) });
    port.element.addEventListener("focusin", () => this.activate(port));
    port.slider.addEventListener("input", () => this.follow(port));
    this.ports.push(port);
    this.panes.append(port.element);
  }

  activate(port) {
    if (this.active === port) return;
    this.active = port;
    for (const each of this.ports) each.element.classList.toggle("active", each === port);
    this.toolbar.draw();
    this.strip.draw();
    this.noteSoon();
  }

  scroll(step, port = this.active) {
    port.go(port.index + step);
    this.follow(port);
  }

  goTo(index, port = this.active) {
    port.go(index);
    this.follow(port);
  }

  follow(port) {
    if (this.isLinked) for (const each of this.ports) each.follow(port);
  }

  nextSeries(step) {
    const entries = this.strip.entries();
    const at = entries.findIndex((each) => each.isIn(this.active));
    const next = entries[at + step];
    if (next) this.openSeries(next.series, this.active, undefined, next.stack?.key).catch(this.report);
  }

  changed(port) {
    if (port !== this.active) return;
    this.toolbar.drawSoon();
    this.noteSoon();
  }

  noteSoon() {
    if (this.noting) return;
    // Browsers take only so many changes of the address a second.
    this.noting = setTimeout(() => {
      this.noting = 0;
      const { series, stack, image } = this.active;
      if (this.signal.aborted || !stack) return;
      note({ series: series.uid, instance: image?.sopUid ?? stack.sopUid, frame: image && image.frame > 1 ? image.frame : null });
    }, NOTED_AFTER_MS);
  }
}

export default {
  name: "viewer",
  title: () => t("view.title"),
  texts,
  styles: ["view"],
  async mount(root, context) {
    replace(root, h("p.loading", { role: "status" }, t("view.loading")));
    await new Desk(root, context).start();
  },
};
