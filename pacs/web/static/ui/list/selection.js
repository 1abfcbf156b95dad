// Studies that are ticked, over all pages, and what can be done with them together.

import { h, icon, replace } from "../core/dom.js";
import { icons } from "../core/icons.js";
import { TAGS, first, personName } from "../core/dicom.js";
import { t } from "../core/i18n.js";
import { may, session } from "../core/session.js";
import { download, mayDelete, remove, send } from "../study/actions.js";
import { labelAll } from "../study/labels.js";

export class Selection {
  #chosen = new Map(); // study → target

  // onChange(): what is ticked is another. onLabelled(studies, label).
  constructor({ onChange, onLabelled }) {
    this.onChange = onChange;
    this.onLabelled = onLabelled;
    this.bar = h("div.selection", { role: "toolbar", "aria-label": t("studies.selection"), hidden: true });
  }

  get size() {
    return this.#chosen.size;
  }

  has(study) {
    return this.#chosen.has(study);
  }

  set(rows, isChosen) {
    for (const row of rows) {
      const study = first(row, TAGS.studyUid);
      if (isChosen) this.#chosen.set(study, { study, title: personName(first(row, TAGS.patientName)) || study });
      else this.#chosen.delete(study);
    }
    this.#changed();
  }

  clear() {
    this.#chosen.clear();
    this.#changed();
  }

  drop(studies) {
    studies.forEach((study) => this.#chosen.delete(study));
    this.#changed();
  }

  #changed() {
    const targets = [...this.#chosen.values()];
    this.bar.hidden = !targets.length;
    const button = (icon_, text, run, kind = "") =>
      h(`button${kind}`, { type: "button", onclick: run }, icon(icon_, 18), h("span", {}, text));
    replace(this.bar,
      h("strong", { "aria-live": "polite" }, t("studies.selected", { n: targets.length })),
      session.canDownload !== false && button(icons.download, t("study.download"), () => download(targets)),
      may("writer") && button(icons.send, t("study.send"), () => send(targets)),
      may("writer") && button(icons.tag, t("study.label"), async () => {
        const studies = targets.map(({ study }) => study);
        const label = await labelAll(studies);
        if (label) this.onLabelled(studies, label);
      }),
      mayDelete() && button(icons.trash, t("study.delete"), () => remove(targets)),
      h("button.icon", { type: "button", "aria-label": t("studies.unselect"), title: t("studies.unselect"), onclick: () => this.clear() }, icon(icons.close)));
    this.onChange();
  }
}
