// All attributes of an instance as a table: searchable, sequences opened and closed, values copied.

import { h, icon, replace } from "../core/dom.js";
import { icons } from "../core/icons.js";
import { openDialog } from "../core/dialog.js";
import { bytes } from "../core/format.js";
import { t } from "../core/i18n.js";
import { toast, toastError } from "../core/toast.js";
import { Rows } from "../list/rows.js";
import { dictionary, isPrivate } from "./dictionary.js";

const ROW_PX = 30;
const TALL_ROW_PX = 48; // on a narrow screen name and value stand below each other
const OPEN_ITEMS = 8; // a sequence of more begins closed
const SHOWN_CHARACTERS = 400;

// metadata: DICOM JSON of one instance. Fills place with a search box and the table.
export async function drawTags(place, metadata, signal) {
  const hasPrivate = Object.keys(metadata).some(isPrivate);
  const names = await dictionary({ withPrivate: hasPrivate });
  new Tags(place, elementsOf(metadata, names), signal);
}

class Tags {
  #asked = "";
  #shown = [];
  #active = 0;
  #sizes = new Map(); // address → text

  constructor(place, elements, signal) {
    this.elements = elements;
    this.signal = signal;
    this.box = h("input", {
      type: "search", id: "tag-search", "aria-label": t("study.tags.search"), placeholder: t("study.tags.search"), autocomplete: "off", spellcheck: "false",
      oninput: () => {
        this.#asked = this.box.value.trim().toLowerCase();
        this.#draw();
      },
      onkeydown: (event) => {
        if (event.key !== "ArrowDown") return;
        event.preventDefault();
        this.grid.focus();
      },
    });
    this.counted = h("span.soft", { role: "status" });
    const head = h("div.tag.tag-head", { role: "row" },
      ["tag", "name", "vr", "value"].map((kind) => h(`div.${kind}`, { role: "columnheader" }, t(`study.tags.${kind}`))),
      h("div.copy", { role: "columnheader" }, h("span.unseen", {}, t("study.copy"))));
    const space = h("div.space", { role: "rowgroup" });
    this.grid = h("div.tag-grid", { role: "treegrid", tabindex: "0", "aria-label": t("study.tags"), onkeydown: (event) => this.#key(event) },
      h("div.head-group", { role: "rowgroup" }, head), space);
    replace(place, h("div.tag-bar", {}, h("div.searchbox", {}, icon(icons.search, 18), this.box), this.counted), this.grid);
    const narrow = window.matchMedia("(max-width: 720px)");
    const height = () => (narrow.matches ? TALL_ROW_PX : ROW_PX);
    this.rows = new Rows({ scroller: this.grid, head: this.grid.firstChild, space, rowPx: height(), draw: (index) => this.#row(index), onSettled: () => this.#measure(), signal });
    narrow.addEventListener("change", () => this.rows.reset(this.#shown.length, height()), { signal });
    this.#draw();
  }

  #draw() {
    const found = this.#asked ? matching(this.elements, this.#asked) : null;
    this.#shown = [...visible(this.elements, found)];
    this.#active = Math.min(this.#active, Math.max(this.#shown.length - 1, 0));
    this.grid.setAttribute("aria-rowcount", String(this.#shown.length + 1));
    this.counted.textContent = found ? t("study.tags.found", { n: found.hits }) : t("study.tags.count", { n: this.elements.length });
    this.rows.reset(this.#shown.length);
    this.#activate(this.#active);
  }

  #row(index) {
    const element = this.#shown[index];
    const { depth, tag, name, vr, text, children, link } = element;
    const isOpen = children && (element.isOpen || Boolean(this.#asked));
    const indent = h("span.indent", { style: { paddingInlineStart: `${depth * 14}px` } });
    const toggle = children
      ? h("button.icon.toggle", { type: "button", tabindex: "-1", "aria-label": t(isOpen ? "study.tags.close" : "study.tags.open"), onclick: () => this.#toggle(index) }, icon(isOpen ? icons.down : icons.right, 14))
      : h("span.toggle");
    const value = link
      ? h("a", { href: link, tabindex: "-1", target: "_blank", rel: "noopener" }, this.#sizes.get(link) ?? t("study.tags.bulk"))
      : h("span", { title: text.length > 60 ? text.slice(0, SHOWN_CHARACTERS) : null }, text.slice(0, SHOWN_CHARACTERS));
    return h(`div.tag${index === this.#active ? ".active" : ""}${element.isItem ? ".item" : ""}`, {
      role: "row", id: `tag-${index}`, "aria-rowindex": String(index + 2), "aria-level": String(depth + 1),
      "aria-expanded": children ? String(isOpen) : null, dataset: { index: String(index) },
      onclick: () => this.#activate(index), ondblclick: () => this.#show(element),
    },
      h("div.tag", { role: "gridcell" }, indent, toggle, h("code", {}, tag)),
      h("div.name", { role: "gridcell", title: element.keyword || name || null }, name || (element.isItem ? "" : h("span.soft", {}, t("study.tags.unknown")))),
      h("div.vr", { role: "gridcell" }, vr),
      h("div.value", { role: "gridcell" }, value),
      h("div.copy", { role: "gridcell" }, text || link ? h("button.icon", { type: "button", tabindex: "-1", "aria-label": t("study.copy.of", { name: name || tag }), title: t("study.copy"), onclick: () => copy(link || element.full()) }, icon(icons.copy, 14)) : null));
  }

  #toggle(index) {
    const element = this.#shown[index];
    if (!element?.children || this.#asked) return;
    element.isOpen = !element.isOpen;
    this.#active = index;
    this.#draw();
  }

  #activate(index) {
    this.rows.element(this.#active)?.classList.remove("active");
    this.#active = index;
    this.rows.element(index)?.classList.add("active");
    if (this.#shown.length) this.grid.setAttribute("aria-activedescendant", `tag-${index}`);
    else this.grid.removeAttribute("aria-activedescendant");
  }

  #key(event) {
    if (event.target !== this.grid || event.metaKey || event.altKey) return;
    const element = this.#shown[this.#active];
    const last = this.#shown.length - 1;
    const moves = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1, PageDown: this.rows.page, PageUp: -this.rows.page, Home: -last, End: last };
    if (event.key in moves && !event.ctrlKey) {
      const to = Math.min(Math.max(this.#active + moves[event.key], 0), Math.max(last, 0));
      this.rows.reveal(to);
      this.#activate(to);
    } else if (event.key === "ArrowRight" && element?.children && !element.isOpen) this.#toggle(this.#active);
    else if (event.key === "ArrowLeft" && element?.children && element.isOpen) this.#toggle(this.#active);
    else if (event.key === "Enter" && element) this.#show(element);
    else if (event.key === "c" && element && !String(window.getSelection())) copy(element.link || element.full());
    else return;
    if (event.ctrlKey && event.key === "c") return;
    event.preventDefault();
    event.stopPropagation();
  }

  // The whole value of one attribute.
  #show(element) {
    const text = element.link || element.full();
    openDialog({
      title: element.name || element.tag,
      wide: true,
      body: [h("p.soft", {}, [element.tag, element.vr, element.keyword].filter(Boolean).join(" · ")), h("pre.value", { tabindex: "0" }, text)],
      actions: [{ text: t("study.copy"), kind: "primary", run: () => copy(text) }],
    });
  }

  // What the sizes are of the bulk data in sight.
  async #measure() {
    for (const [index] of this.rows.drawn()) {
      const { link } = this.#shown[index] ?? {};
      if (!link || this.#sizes.has(link)) continue;
      this.#sizes.set(link, t("study.tags.bulk"));
      try {
        const response = await fetch(link, { method: "HEAD", headers: { Accept: "application/octet-stream" }, signal: this.signal });
        const length = Number(response.headers.get("Content-Length"));
        if (response.ok && length) this.#sizes.set(link, t("study.tags.bulk.size", { size: bytes(length) }));
      } catch {
        return; // the link is there all the same
      }
      const at = this.#shown.findIndex((element) => element.link === link);
      if (at >= 0) this.rows.redraw(at);
    }
  }
}

// --- elements of a data set ---

// {depth, tag, name, keyword, vr, text, full, link, children, isItem, isOpen}; an item of a sequence is an element too.
function elementsOf(dataSet, names, depth = 0) {
  return Object.keys(dataSet).sort().map((tag) => {
    const { vr = "", Value: values, BulkDataURI, InlineBinary } = dataSet[tag];
    const creator = isPrivate(tag) ? dataSet[`${tag.slice(0, 4)}00${tag.slice(4, 6)}`]?.Value?.[0] : "";
    const element = { depth, tag: `(${tag.slice(0, 4)},${tag.slice(4)})`, ...names.attribute(tag, creator), vr, isOpen: true };
    if (vr === "SQ") {
      element.children = (values ?? []).map((item, at) => itemOf(item ?? {}, at, names, depth + 1));
      element.text = t("study.tags.items", { n: element.children.length });
      element.isOpen = element.children.length <= OPEN_ITEMS;
      element.full = () => JSON.stringify(values ?? [], null, 2);
      if (!element.children.length) element.children = null;
      return element;
    }
    element.link = BulkDataURI;
    element.text = BulkDataURI ? "" : InlineBinary ? t("study.tags.binary", { n: Math.floor((InlineBinary.length * 3) / 4) }) : (values ?? []).map((value) => shown(value, vr, names)).join(" \\ ");
    element.full = () => InlineBinary ?? (values ?? []).map((value) => shown(value, vr, names, true)).join("\\");
    return element;
  });
}

function itemOf(item, at, names, depth) {
  return {
    depth, tag: t("study.tags.item", { n: at + 1 }), name: "", keyword: "", vr: "", text: "", isItem: true, isOpen: true,
    children: elementsOf(item, names, depth + 1), full: () => JSON.stringify(item, null, 2),
  };
}

function shown(value, vr, names, isBare = false) {
  if (value === null || value === undefined) return "";
  if (vr === "PN") return [value.Alphabetic, value.Ideographic, value.Phonetic].map((group) => group ?? "").join("=").replace(/=+$/, "");
  const text = String(value);
  const name = vr === "UI" && !isBare ? names.uid(text) : "";
  return name ? `${text}  (${name})` : text;
}

// Elements in the order of the table; found: those that are shown, or null for all that is open.
function* visible(elements, found) {
  for (const element of elements) {
    if (found && !found.has(element)) continue;
    yield element;
    if (element.children && (found || element.isOpen)) yield* visible(element.children, found);
  }
}

// What has the text in its tag, name, keyword, VR or value, with the sequences that lead to it. hits: without those.
function matching(elements, asked) {
  const found = new Set();
  found.hits = 0;
  const bare = asked.replace(/[(),\s]/g, "");
  const isHit = ({ tag, name, keyword, vr, text, isItem }) =>
    !isItem && (`${name}\n${keyword}\n${text}`.toLowerCase().includes(asked) || vr.toLowerCase() === asked
      || (bare && tag.replace(/[(),]/g, "").toLowerCase().startsWith(bare)));
  const look = (element) => {
    const isOne = isHit(element);
    if (isOne) found.hits += 1;
    // All of them have to be looked at: no early end.
    const within = (element.children ?? []).map(look).includes(true);
    if (isOne || within) found.add(element);
    return isOne || within;
  };
  elements.forEach(look);
  return found;
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast(t("study.copied"), { kind: "success", ms: 2000 });
  } catch {
    copyByHand(text); // without TLS there is no clipboard but on loopback
  }
}

function copyByHand(text) {
  const area = h("textarea.unseen", { value: "" });
  area.value = text;
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  const isDone = document.execCommand("copy");
  area.remove();
  if (isDone) toast(t("study.copied"), { kind: "success", ms: 2000 });
  else toastError(new Error(t("study.copy.failed")));
}
