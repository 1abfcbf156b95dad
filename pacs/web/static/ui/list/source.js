// Studies that one search finds, fetched page by page as they come into sight.

import { ApiError, json, search } from "../core/api.js";
import { TAGS, first } from "../core/dicom.js";

const PAGE = 50;
const KEPT_PAGES = 80;
const PAUSE_MS = 60; // pages that are only flown over are not asked for

export class Source {
  #pages = new Map(); // number → rows, or null while they come; in order of use
  #coming = new Map(); // number → AbortController
  #timer = 0;

  // query: of QIDO-RS. onRows(first, end): rows that have come. onFail(error): a page could not be had.
  constructor(query, { onRows, onFail, signal }) {
    Object.assign(this, { query, onRows, onFail, signal });
    this.total = 0;
    this.labels = new Map(); // study → [label]
    signal.addEventListener("abort", () => this.#stop());
  }

  // The first rows in sight, and how many there are. Throws ApiError.
  async begin(index = 0) {
    const number = Math.floor(index / PAGE);
    const { rows, headers } = await this.#fetch(number, this.signal, true);
    this.total = Number(headers.get("X-Total-Count") ?? rows.length);
    this.#pages.set(number, rows);
    this.#fetchLabels(number, rows);
  }

  row(index) {
    return this.#pages.get(Math.floor(index / PAGE))?.[index % PAGE] ?? null;
  }

  // Rows that have been fetched, with their places.
  *known() {
    for (const [number, rows] of this.#pages) for (const [at, row] of rows.entries()) yield [number * PAGE + at, row];
  }

  // Rows first to end are in sight.
  need(first, end) {
    clearTimeout(this.#timer);
    const numbers = [];
    for (let number = Math.floor(first / PAGE); number * PAGE < end; number += 1) numbers.push(number);
    for (const [number, coming] of this.#coming) if (!numbers.includes(number)) coming.abort();
    for (const number of numbers.filter((each) => this.#pages.has(each))) {
      const rows = this.#pages.get(number);
      this.#pages.delete(number); // used last: what is in sight is not the one that is let go
      this.#pages.set(number, rows);
    }
    const missing = numbers.filter((number) => !this.#pages.has(number) && !this.#coming.has(number));
    if (missing.length) this.#timer = setTimeout(() => missing.forEach((number) => this.#load(number)), PAUSE_MS);
  }

  // All rows from one to another, also those that have not been in sight. Throws ApiError.
  async range(from, to) {
    const found = [];
    for (let number = Math.floor(from / PAGE); number * PAGE <= to; number += 1) {
      const rows = this.#pages.get(number) ?? (await this.#fetch(number, this.signal)).rows;
      rows.forEach((row, at) => {
        const index = number * PAGE + at;
        if (index >= from && index <= to) found.push(row);
      });
    }
    return found;
  }

  async #load(number) {
    const stopping = new AbortController();
    this.#coming.set(number, stopping);
    try {
      const { rows } = await this.#fetch(number, stopping.signal);
      this.#pages.set(number, rows);
      while (this.#pages.size > KEPT_PAGES) this.#pages.delete(this.#pages.keys().next().value);
      this.onRows(number * PAGE, number * PAGE + PAGE);
      this.#fetchLabels(number, rows);
    } catch (error) {
      if (error.name !== "AbortError") this.onFail(error);
    } finally {
      this.#coming.delete(number);
    }
  }

  #fetch(number, signal, count = false) {
    const query = { ...this.query, limit: PAGE, offset: number * PAGE || null, count: count || null };
    return search("studies", { query, signal });
  }

  async #fetchLabels(number, rows) {
    const studies = rows.map((row) => first(row, TAGS.studyUid));
    if (!studies.length) return;
    try {
      const found = await json("labels", { query: { studies: studies.join(",") }, signal: this.signal });
      let isAny = false;
      for (const [study, labels] of Object.entries(found)) {
        isAny ||= labels.length > 0;
        this.labels.set(study, labels);
      }
      if (isAny) this.onRows(number * PAGE, number * PAGE + PAGE);
    } catch (error) {
      // The list is of use without them; they come with the next page.
      if (!(error instanceof ApiError) && error.name !== "AbortError") throw error;
    }
  }

  #stop() {
    clearTimeout(this.#timer);
    for (const coming of this.#coming.values()) coming.abort();
  }
}
