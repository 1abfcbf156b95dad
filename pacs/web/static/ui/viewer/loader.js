// Frames on their way and at hand: the current one first, then its neighbours, within bounds of memory and of requests.

import { request } from "../core/api.js";
import { tablesOf } from "./luts.js";
import { planesOf } from "./planes.js";
import { isNative, samplesOf, samplesOfPicture } from "./pixels.js";

const MOST_BYTES = 256 * 2 ** 20;
const MOST_AT_ONCE = 4;
const NATIVE = "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1";

export class Loader {
  // signal: of the view; nothing is fetched once it is aborted. size_bytes: of frames at hand, at most (one stays always).
  constructor(studyUid, signal, sizeBytes = MOST_BYTES) {
    this.studyUid = studyUid;
    this.sizeBytes = sizeBytes;
    this.heldBytes = 0;
    this.atHand = new Map(); // key → {samples, tables}; the least recently used first
    this.onTheWay = new Map(); // key → {promise, abort}
    this.failed = new Set(); // keys that are not tried again unasked
    this.tables = new Map(); // SOP Instance UID → promise
    this.ahead = new Map(); // whose → images wanted next, nearest first
    this.signal = signal;
    signal.addEventListener("abort", () => {
      this.onTheWay.forEach(({ abort }) => abort());
      this.ahead.clear();
      this.atHand.clear();
    });
  }

  // {samples, tables} when it is there now.
  held(image) {
    const found = this.atHand.get(image.key);
    if (found) {
      this.atHand.delete(image.key);
      this.atHand.set(image.key, found);
    }
    return found;
  }

  // Throws ApiError, or Error("short") when the server sent less than a frame.
  load(image) {
    const found = this.held(image);
    return found ? Promise.resolve(found) : this.fetch(image).promise;
  }

  // Images wanted next by a viewport, nearest first; what is on the way and no longer wanted is given up.
  want(whose, current, next) {
    this.ahead.set(whose, { current, next });
    const wanted = new Set([...this.ahead.values()].flatMap((each) => [each.current.key, ...each.next.map((image) => image.key)]));
    for (const [key, { abort }] of this.onTheWay) if (!wanted.has(key)) abort();
    this.fetchAhead();
  }

  forget(whose) {
    this.ahead.delete(whose);
  }

  fetchAhead() {
    if (this.signal.aborted) return;
    for (const { next } of this.ahead.values()) {
      let bytes = 0;
      for (const image of next) {
        bytes += bytesOf(image);
        // Further ahead than fits, frames would push each other out.
        if (this.onTheWay.size >= MOST_AT_ONCE || bytes > this.sizeBytes / 2 / this.ahead.size) break;
        if (![this.atHand, this.onTheWay, this.failed].some((each) => each.has(image.key))) this.fetch(image).promise.catch(() => {});
      }
    }
  }

  fetch(image) {
    const running = this.onTheWay.get(image.key);
    if (running) return running;
    const leaving = new AbortController();
    const entry = { abort: () => { this.onTheWay.delete(image.key); leaving.abort(); } };
    entry.promise = this.read(image, leaving.signal).then((found) => {
      if (!this.signal.aborted) this.keep(image.key, found);
      this.failed.delete(image.key);
      return found;
    }, (error) => {
      if (error.name !== "AbortError") this.failed.add(image.key);
      throw error;
    }).finally(() => {
      if (this.onTheWay.get(image.key) === entry) this.onTheWay.delete(image.key);
      this.fetchAhead();
    });
    this.onTheWay.set(image.key, entry);
    return entry;
  }

  async read(image, signal) {
    const path = `studies/${this.studyUid}/series/${image.seriesUid}/instances/${image.sopUid}/frames/${image.frame}`;
    const tables = this.tablesOf(image);
    if (isNative(image)) {
      const response = await request(path, { headers: { Accept: NATIVE }, signal });
      const [buffer, found] = [await response.arrayBuffer(), await tables];
      if (image.photometric === "PALETTE COLOR" && !found.palette) return { samples: await this.picture(image, path, signal), tables: found };
      return { samples: samplesOf(image, buffer, found), tables: found };
    }
    return { samples: await this.picture(image, path, signal), tables: await tables };
  }

  async picture(image, path, signal) {
    const response = await request(`${path}/rendered`, { headers: { Accept: "image/png" }, signal });
    const bitmap = await createImageBitmap(await response.blob(), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    // The server's picture of pixels that are not square has square ones.
    const canvas = new OffscreenCanvas(image.columns, image.rows);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0, image.columns, image.rows);
    bitmap.close();
    return samplesOfPicture(context.getImageData(0, 0, canvas.width, canvas.height).data);
  }

  tablesOf(image) {
    if (!this.tables.has(image.sopUid)) {
      const found = Promise.all([tablesOf(image, this.signal), planesOf(image, this.signal)]).then(([tables, planes]) => ({ ...tables, planes }));
      found.catch(() => this.tables.delete(image.sopUid));
      this.tables.set(image.sopUid, found);
    }
    return this.tables.get(image.sopUid);
  }

  keep(key, found) {
    this.heldBytes += found.samples.bytes - (this.atHand.get(key)?.samples.bytes ?? 0);
    this.atHand.delete(key);
    this.atHand.set(key, found);
    for (const [oldest, { samples }] of this.atHand) {
      if (this.heldBytes <= this.sizeBytes || oldest === key) break;
      this.atHand.delete(oldest);
      this.heldBytes -= samples.bytes;
    }
  }
}

const bytesOf = (image) => image.rows * image.columns * (image.samples > 1 ? 4 : Math.max(1, image.allocated / 8));
