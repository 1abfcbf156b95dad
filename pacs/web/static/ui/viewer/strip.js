// The series of the study at the side (below, on a phone), with a picture of each.

import { address } from "../core/api.js";
import { h, replace } from "../core/dom.js";
import { t } from "../core/i18n.js";

const MOST_STACKS = 200;

export class Strip {
  constructor(desk) {
    this.desk = desk;
    this.element = h("nav.strip", { "aria-label": t("view.series") });
    this.drawn = "";
  }

  // One a series, or one a stack where its metadata tell that there are several.
  entries() {
    const { desk } = this;
    return desk.series.flatMap((series) => {
      if (!series.stacks || series.stacks.length < 2) return [{ series, stack: series.stacks?.[0] ?? null, isIn: (port) => port.wanted === series }];
      return series.stacks.slice(0, MOST_STACKS).map((stack) => ({ series, stack, isIn: (port) => port.stack === stack }));
    });
  }

  draw() {
    const { desk } = this;
    const entries = this.entries();
    const state = entries.map(({ series, stack }) => `${series.uid}/${stack?.key ?? ""}`).join();
    if (state !== this.drawn) {
      this.drawn = state;
      this.buttons = entries.map((entry) => this.button(entry));
      replace(this.element, this.buttons);
    }
    entries.forEach((entry, at) => {
      this.buttons[at].setAttribute("aria-current", String(entry.isIn(desk.active)));
      this.buttons[at].classList.toggle("open", desk.ports.some((port) => entry.isIn(port)));
    });
  }

  // Only the strip itself is scrolled, never the page around it.
  reveal() {
    const { element } = this;
    const button = element.querySelector('[aria-current="true"]');
    if (!button) return;
    const [outer, inner] = [element.getBoundingClientRect(), button.getBoundingClientRect()];
    if (inner.top < outer.top || inner.bottom > outer.bottom) element.scrollTop += inner.top - outer.top - 6;
    if (inner.left < outer.left || inner.right > outer.right) element.scrollLeft += inner.left - outer.left - 6;
  }

  button({ series, stack }) {
    const { desk } = this;
    const isPart = series.stacks?.length > 1;
    const path = `studies/${desk.studyUid}/series/${series.uid}${isPart && stack ? `/instances/${stack.sopUid}` : ""}/thumbnail`;
    const picture = h("img", { src: address(path), alt: "", loading: "lazy", width: "96", height: "96" });
    picture.addEventListener("error", () => picture.classList.add("missing"));
    const isFilm = stack?.images.length > 1 && stack.key;
    const count = isFilm ? t("view.frames", { n: stack.images.length }) : t("view.images", { n: isPart ? Math.max(1, stack.images.length) : series.count });
    return h("button", { type: "button", onclick: () => desk.openSeries(series, desk.active, undefined, stack?.key).catch(desk.report) },
      picture,
      h("span.text", {}, h("strong", {}, [series.number, series.modality].filter((each) => each !== undefined && each !== "").join(" · ")),
        h("span", {}, (isPart && stack.label) || series.description), h("span.soft", {}, count)));
  }
}
