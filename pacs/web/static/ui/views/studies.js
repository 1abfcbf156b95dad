// The list of studies: search, filters, order, and a table that scrolls over all that is found.

import { h, icon, replace } from "../core/dom.js";
import { icons } from "../core/icons.js";
import { TAGS, all, first } from "../core/dicom.js";
import { bind } from "../core/keys.js";
import { note } from "../core/router.js";
import { t } from "../core/i18n.js";
import { may } from "../core/session.js";
import { toastError } from "../core/toast.js";
import { SORTS, asked, filtersUsed, isAnythingAsked, noted, qido } from "../list/asked.js";
import { watchArrivals } from "../list/arrivals.js";
import { drawFilters } from "../list/filters.js";
import { drawFailure, drawFirstSteps, drawNothing } from "../list/notices.js";
import { Pictures } from "../list/pictures.js";
import { drawRow, rowId } from "../list/row.js";
import { Rows } from "../list/rows.js";
import { Selection } from "../list/selection.js";
import { Source } from "../list/source.js";
import { fullViewer, quickViewer } from "../study/actions.js";
import studyTexts from "../texts/study.js";
import listTexts from "../texts/studies.js";

const TYPING_MS = 90;
const ROW_PX = 52;
const CARD_PX = 108;
const NARROW = "(max-width: 720px)";
const COLUMNS = [
  ["patient", "PatientName"], ["id", "PatientID"], ["when", "StudyDate"], ["modalities", "ModalitiesInStudy"],
  ["what", "StudyDescription"], ["accession", "AccessionNumber"], ["count", "NumberOfStudyRelatedInstances"],
];

const texts = Object.fromEntries(["en", "zh-Hant"].map((language) => [language, { ...studyTexts[language], ...listTexts[language] }]));

export default {
  name: "studies",
  title: () => t("nav.studies"),
  texts,
  styles: ["list", "studies"],
  async mount(root, { query, signal }) {
    const state = asked(query);
    await new StudyList(root, state, signal).begin(Number(query.get("at")) || 0);
  },
};

class StudyList {
  #source = null;
  #searching = new AbortController();
  #active = -1;
  #anchor = -1; // where a range of ticks begins
  #arrived = new Set();
  #typing = 0;

  constructor(root, state, signal) {
    this.state = state;
    this.signal = signal;
    this.pictures = new Pictures();
    this.selection = new Selection({ onChange: () => this.#drawTicks(), onLabelled: (studies, label) => this.#labelled(studies, label) });
    this.#draw(root);
    const narrow = window.matchMedia(NARROW);
    this.rows = new Rows({
      scroller: this.grid,
      head: this.grid.firstChild,
      space: this.space,
      rowPx: narrow.matches ? CARD_PX : ROW_PX,
      draw: (index) => this.#row(index),
      onWindow: (from, end) => this.#source?.need(from, end),
      onSettled: () => this.#settled(),
      signal,
    });
    narrow.addEventListener("change", () => this.rows.reset(this.rows.total, narrow.matches ? CARD_PX : ROW_PX), { signal });
    this.#bindKeys();
    watchArrivals((study) => this.#arrival(study), signal);
    window.addEventListener("archive", ({ detail }) => {
      this.selection.drop(detail.map(({ study }) => study));
      this.#search({ keepPlace: true });
    }, { signal });
    signal.addEventListener("abort", () => {
      clearTimeout(this.#typing);
      this.#searching.abort();
    });
  }

  async begin(at) {
    await this.#search({ at });
  }

  // --- what is there ---

  #draw(root) {
    const { state } = this;
    this.box = h("input", {
      type: "search", id: "search", value: state.q, autocomplete: "off", spellcheck: "false", enterkeyhint: "search",
      placeholder: t("studies.search.hint"), "aria-label": t("studies.search"),
      oninput: () => {
        state.q = this.box.value;
        clearTimeout(this.#typing);
        this.#typing = setTimeout(() => this.#search(), TYPING_MS);
      },
      onkeydown: (event) => this.#boxKey(event),
    });
    this.filters = drawFilters(state, () => this.#search(), this.signal);
    this.filters.hidden = !filtersUsed(state);
    this.filterButton = h("button.filter", {
      type: "button", "aria-expanded": String(!this.filters.hidden), "aria-controls": "filters",
      onclick: () => {
        this.filters.hidden = !this.filters.hidden;
        this.filterButton.setAttribute("aria-expanded", String(!this.filters.hidden));
        if (!this.filters.hidden) this.filters.querySelector("input").focus();
      },
    });
    this.order = h("select", { "aria-label": t("studies.sort"), onchange: () => this.#sort(this.order.value) },
      SORTS.flatMap((name) => [[`-${name}`, "down"], [name, "up"]].map(([value, way]) =>
        h("option", { value, selected: value === state.sort }, t("studies.sort.by", { column: t(`studies.column.${name}`), way: t(`studies.sort.${way}`) })))));
    this.news = h("button.news", { type: "button", hidden: true, onclick: () => this.#search() });
    this.total = h("span.total.soft", { role: "status" });
    this.heads = new Map();
    this.head = h("div.row.head-row", { role: "row", "aria-rowindex": "1" },
      h("div.box", { role: "columnheader" }, h("span.unseen", {}, t("studies.selection"))),
      h("div.picture", { role: "columnheader" }, h("span.unseen", {}, t("studies.picture"))),
      COLUMNS.map(([kind, name]) => {
        const button = h("button", { type: "button", onclick: () => this.#sort(this.state.sort === this.#firstWay(name) ? this.#otherWay(name) : this.#firstWay(name)) }, t(`studies.column.${name}`));
        const cell = h(`div.${kind}`, { role: "columnheader" }, button);
        this.heads.set(name, cell);
        return cell;
      }),
      h("div.open", { role: "columnheader" }, h("span.unseen", {}, t("studies.view"))));
    this.space = h("div.space", { role: "rowgroup" });
    this.grid = h("div.grid", {
      role: "grid", tabindex: "0", "aria-label": t("nav.studies"), "aria-multiselectable": "true",
      onclick: (event) => this.#clicked(event),
      onkeydown: (event) => this.#gridKey(event),
    }, h("div.head-group", { role: "rowgroup" }, this.head), this.space);
    this.notice = h("div.notices", { hidden: true });
    replace(root,
      h("h1.unseen", {}, t("nav.studies")),
      h("div.bar", { role: "search" },
        h("div.searchbox", {}, icon(icons.search, 18), this.box, h("kbd", { "aria-hidden": "true" }, "/")),
        this.filterButton, this.order, this.news, this.total,
        may("writer") && h("a.button.icon", { href: "#/trash", "aria-label": t("studies.trash"), title: t("studies.trash") }, icon(icons.trash, 18))),
      this.filters,
      h("div.frame", {}, this.grid, this.notice),
      this.selection.bar);
    this.#drawAsked();
  }

  #drawAsked() {
    const used = filtersUsed(this.state);
    replace(this.filterButton, t("studies.filters"), used ? h("span.badge", {}, String(used)) : null);
    this.order.value = this.state.sort;
    for (const [name, cell] of this.heads) {
      const isDown = this.state.sort === `-${name}`;
      const isSorted = isDown || this.state.sort === name;
      if (isSorted) cell.setAttribute("aria-sort", isDown ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
      cell.querySelector("svg")?.remove();
      if (isSorted) cell.firstChild.append(icon(isDown ? icons.down : icons.up, 14));
    }
  }

  #row(index) {
    const row = this.#source?.row(index) ?? null;
    const study = row && first(row, TAGS.studyUid);
    return drawRow(row, index, {
      labels: row ? this.#source.labels.get(study) : [],
      isActive: index === this.#active,
      isSelected: Boolean(row) && this.selection.has(study),
      onSelect: (event) => this.#tick(index, event),
      picture: row && this.pictures.place(`studies/${study}`, all(row, TAGS.modalities)[0] || ""),
    });
  }

  // --- searching ---

  // keepPlace: the same rows stay in sight, as far as they are still there.
  async #search({ at = 0, keepPlace = false } = {}) {
    clearTimeout(this.#typing);
    this.#typing = 0;
    this.#searching.abort();
    const searching = (this.#searching = new AbortController());
    if (keepPlace) at = this.rows.top;
    this.#drawAsked();
    this.#note(at);
    this.grid.setAttribute("aria-busy", "true");
    const source = new Source(qido(this.state), {
      onRows: (from, end) => {
        if (this.#source !== source) return;
        for (let index = from; index < end; index += 1) this.rows.redraw(index);
        this.#settled();
      },
      onFail: (error) => toastError(error),
      signal: searching.signal,
    });
    try {
      await source.begin(at);
      if (at && at >= source.total) await source.begin((at = 0)); // the list has become shorter
    } catch (error) {
      if (error.name === "AbortError" || searching.signal.aborted) return;
      this.#tell(drawFailure(error, () => this.#search({ at })));
      this.grid.removeAttribute("aria-busy");
      return;
    }
    if (searching.signal.aborted) return;
    this.#source = source;
    this.grid.removeAttribute("aria-busy");
    this.grid.setAttribute("aria-rowcount", String(source.total + 1));
    this.total.textContent = t("studies.total", { n: source.total });
    this.#arrived.clear();
    this.news.hidden = true;
    if (!keepPlace) this.#setActive(-1);
    else if (this.#active >= source.total) this.#setActive(source.total - 1);
    this.#anchor = -1;
    this.rows.reset(source.total);
    this.rows.scrollTo(at);
    if (source.total) this.#tell(null);
    else this.#tell(isAnythingAsked(this.state) ? drawNothing(() => this.#clear()) : drawFirstSteps());
  }

  #tell(notice) {
    this.notice.hidden = !notice;
    this.grid.hidden = Boolean(notice);
    replace(this.notice, notice);
    if (notice) this.total.textContent = "";
  }

  #clear() {
    location.hash = "#/studies";
  }

  #sort(sort) {
    this.state.sort = sort;
    this.#search();
  }

  // Newest and most come first; names and numbers from the beginning.
  #firstWay(name) {
    return name === "StudyDate" || name === "NumberOfStudyRelatedInstances" ? `-${name}` : name;
  }

  #otherWay(name) {
    return this.#firstWay(name).startsWith("-") ? name : `-${name}`;
  }

  #note(at) {
    note({ ...noted(this.state), at: at || "" });
  }

  #settled() {
    if (!this.#source || this.signal.aborted || this.#searching.signal.aborted) return;
    this.#note(this.rows.top);
    this.pictures.show(this.space.querySelectorAll(".thumb:not(:has(img))"));
  }

  #arrival(study) {
    if (this.#arrived.has(study)) return;
    this.#arrived.add(study);
    this.news.hidden = false;
    this.news.textContent = t("studies.new", { n: this.#arrived.size });
  }

  #labelled(studies, label) {
    const labels = this.#source?.labels;
    for (const study of studies) labels?.set(study, [...new Set([...(labels.get(study) || []), label])].sort());
    this.rows.refresh();
    this.#settled();
  }

  // --- moving, ticking, opening ---

  #setActive(index) {
    const old = this.#active;
    this.#active = index;
    for (const each of [old, index]) this.rows.element(each)?.classList.toggle("active", each === index);
    if (index < 0) this.grid.removeAttribute("aria-activedescendant");
    else this.grid.setAttribute("aria-activedescendant", rowId(index));
  }

  #move(index) {
    if (!this.rows.total) return;
    const to = Math.min(Math.max(index, 0), this.rows.total - 1);
    this.rows.reveal(to);
    this.#setActive(to);
    this.grid.focus({ preventScroll: true });
  }

  #step(by) {
    this.#move(this.#active < 0 ? this.rows.top + (by > 0 ? 0 : this.rows.page) : this.#active + by);
  }

  #bindKeys() {
    const open = () => {
      const row = this.#activeRow();
      if (!row) return false;
      location.hash = `#/studies/${first(row, TAGS.studyUid)}`;
    };
    const isControl = () => document.activeElement?.closest("button, a, select, summary, input");
    bind({
      "/": ["studies.key.search", () => {
        this.box.focus();
        this.box.select();
      }],
      j: ["studies.key.down", () => this.#step(1)],
      k: ["studies.key.up", () => this.#step(-1)],
      ArrowDown: ["studies.key.down", () => (isControl() ? false : this.#step(1))],
      ArrowUp: ["studies.key.up", () => (isControl() ? false : this.#step(-1))],
      Enter: ["studies.key.open", () => (isControl() ? false : open())],
      x: ["studies.key.select", (event) => this.#activeRow() && this.#tick(this.#active, event)],
      v: ["studies.key.view", () => {
        const row = this.#activeRow();
        if (!row) return false;
        const target = { study: first(row, TAGS.studyUid) };
        const full = fullViewer(target);
        if (full) location.href = full;
        else location.hash = quickViewer(target);
      }],
      Escape: ["studies.key.unselect", () => {
        if (!this.selection.size || document.activeElement === this.box) return false;
        this.selection.clear();
      }],
    }, this.signal);
  }

  #drawTicks() {
    for (const [index, element] of this.rows?.drawn() ?? []) {
      const row = this.#source?.row(index);
      const isTicked = Boolean(row) && this.selection.has(first(row, TAGS.studyUid));
      element.classList.toggle("selected", isTicked);
      element.setAttribute("aria-selected", String(isTicked));
      const box = element.querySelector("input");
      if (box) box.checked = isTicked;
    }
  }

  #activeRow() {
    return this.#active < 0 ? null : this.#source?.row(this.#active);
  }

  async #boxKey(event) {
    if (event.key === "ArrowDown" || event.key === "Enter") {
      event.preventDefault();
      // Into what was typed, not into what was found before.
      if (this.#typing || this.grid.hasAttribute("aria-busy")) await this.#search();
      if (document.activeElement === this.box) this.#move(this.#active < 0 ? 0 : this.#active);
    } else if (event.key === "Escape" && this.box.value) {
      event.preventDefault();
      event.stopPropagation();
      this.box.value = this.state.q = "";
      this.#search();
    }
  }

  #gridKey(event) {
    if (event.target !== this.grid || event.ctrlKey || event.metaKey || event.altKey) return;
    const to = {
      PageDown: Math.max(this.#active, this.rows.top) + this.rows.page,
      PageUp: Math.max(this.#active, 0) - this.rows.page,
      Home: 0,
      End: this.rows.total - 1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.#move(to);
  }

  async #tick(index, { shiftKey = false } = {}) {
    const row = this.#source?.row(index);
    if (!row) return;
    const isChosen = !this.selection.has(first(row, TAGS.studyUid));
    const from = shiftKey && this.#anchor >= 0 ? this.#anchor : index;
    this.#anchor = index;
    this.#setActive(index);
    try {
      this.selection.set(from === index ? [row] : await this.#source.range(Math.min(from, index), Math.max(from, index)), isChosen);
    } catch (error) {
      toastError(error);
    }
    this.#settled();
  }

  #clicked(event) {
    const element = event.target.closest(".row[data-index]");
    if (!element || event.target.closest("a, button, input")) return;
    const index = Number(element.dataset.index);
    if (event.shiftKey || event.ctrlKey || event.metaKey) return this.#tick(index, event);
    const row = this.#source?.row(index);
    if (!row || String(window.getSelection())) return; // text is being marked
    this.#setActive(index);
    location.hash = `#/studies/${first(row, TAGS.studyUid)}`;
  }
}

