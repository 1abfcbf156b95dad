// Thumbnails, a few at a time and only of what is in sight once scrolling has paused. What has none shows its modality.

import { address } from "../core/api.js";
import { h } from "../core/dom.js";

const AT_ONCE = 4;

export class Pictures {
  #waiting = [];
  #going = 0;
  #known = new Map(); // path → true: there is a picture; false: there is none

  // A place for the picture of what lies at a path (studies/1.2.3); word: shown where there is none.
  place(path, word = "") {
    const place = h("span.thumb", { dataset: { path } }, h("span.word", { "aria-hidden": "true" }, word));
    if (this.#known.get(path)) place.append(picture(path)); // the browser has it
    return place;
  }

  // Fill these places; those that are still waiting of the time before are let go.
  show(places) {
    this.#waiting = [...places].filter((place) => !this.#known.has(place.dataset.path));
    while (this.#going < AT_ONCE && this.#waiting.length) this.#next();
  }

  #next() {
    const place = this.#waiting.shift();
    if (!place) return;
    const { path } = place.dataset;
    const image = picture(path);
    const done = (isThere) => {
      this.#going -= 1;
      this.#known.set(path, isThere);
      if (!isThere) image.remove();
      this.#next();
    };
    this.#going += 1;
    image.addEventListener("load", () => done(true));
    image.addEventListener("error", () => done(false));
    place.append(image);
  }
}

const picture = (path) => h("img", { src: address(`${path}/thumbnail`), alt: "", decoding: "async", draggable: "false" });
