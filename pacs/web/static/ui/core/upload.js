// Uploads, whatever view is shown: files in, requests of several files out (STOW-RS), a result for each.

import { ApiError, post, request } from "./api.js";
import { hasMagic, mayBeDicom } from "./files.js";

const REQUESTS = 3;
const MOST_FILES = 16, MOST_BYTES = 32 * 2 ** 20;
const LONGEST_PAUSE_S = 30, USUAL_PAUSE_S = 5;
const LOSSES_ALLOWED = 3; // of one request, while the server answers others
const RATE_OVER_MS = 8000;
const TURN = 100;
const MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"; // SOP class of a DICOMDIR

// Of a file: waiting, sending; then stored, same, replaced, refused (code, comment), skipped (reason), failed (reason),
// cancelled.
export const RESULTS = ["stored", "same", "replaced", "refused", "failed", "skipped", "cancelled"];

class Uploads extends EventTarget {
  constructor() {
    super();
    this.clear();
  }

  clear() {
    this.files = [];
    this.counts = Object.fromEntries([...RESULTS, "waiting", "sending"].map((name) => [name, 0]));
    this.studies = new Map(); // by UID, how many files
    this.bytes = { total: 0, done: 0 };
    this.paused = false;
    this.hold = null; // {until, reason: "busy" | "away"}
    this.adding = 0;
    this.began = 0;
    this.ended = 0;
    this._next = 0;
    this._again = []; // files to be sent again, before those that wait
    this._single = new Set(); // files that go alone from now on
    this._flying = new Map();
    this._samples = [];
    this._stop = new AbortController();
    this._lanes = 0;
    this._changed();
  }

  get isActive() {
    return this.adding > 0 || this._lanes > 0 || this.counts.waiting + this.counts.sending > 0;
  }

  // found: an async iterable of core/files.js.
  async add(found) {
    if (!this.isActive) this._restart();
    this.adding += 1;
    const { signal } = this._stop;
    try {
      for await (const { name, size, open, reason } of found) {
        if (signal.aborted) break;
        const file = { name, size, open, state: "waiting", reason: "", code: "", comment: "", study: "", sop: "", losses: 0 };
        this.files.push(file);
        this.counts.waiting += 1;
        this.bytes.total += size;
        if (reason) this._settle(file, "failed", { reason });
        else this._begin();
        this._changed();
        if (this.files.length % TURN === 0) await sleep(0); // the page has its turn
      }
    } finally {
      this.adding -= 1;
      this._begin();
      this._finish();
    }
  }

  pause() {
    this.paused = true;
    this._changed();
  }

  resume() {
    this.paused = false;
    this.hold = null;
    this._begin();
    this._changed();
  }

  // Ends what is under way; what has been stored stays.
  cancel() {
    this._stop.abort();
    for (const file of this.files) if (file.state === "waiting") this._settle(file, "cancelled");
    this._again = [];
    this._next = this.files.length;
    this.paused = false;
    this.hold = null;
    this._changed();
    this._finish();
  }

  // Those that failed or were cancelled once more; a refusal stays one.
  retry() {
    this._restart();
    for (const file of this.files) {
      if (!file.open || (file.state !== "failed" && file.state !== "cancelled")) continue;
      this.counts[file.state] -= 1;
      this.counts.waiting += 1;
      this.bytes.done -= file.size;
      Object.assign(file, { state: "waiting", reason: "", losses: 0 });
      this._again.push(file);
    }
    this._begin();
    this._changed();
  }

  get sentBytes() {
    let flying = 0;
    for (const loaded of this._flying.values()) flying += loaded;
    return Math.min(this.bytes.total, this.bytes.done + flying);
  }

  // Bytes a second over the last seconds, 0 when nothing is known.
  rate() {
    const now = performance.now();
    this._samples.push([now, this.sentBytes]);
    while (this._samples.length > 2 && now - this._samples[0][0] > RATE_OVER_MS) this._samples.shift();
    const [[then, before]] = this._samples;
    return now - then > 300 ? Math.max(0, (1000 * (this.sentBytes - before)) / (now - then)) : 0;
  }

  _restart() {
    if (this._stop.signal.aborted) this._stop = new AbortController();
    this.began = this.began && this.counts.waiting ? this.began : Date.now();
    this.ended = 0;
    this._samples = [];
  }

  _begin() {
    while (this._lanes < REQUESTS && !this.paused && (this._again.length || this._next < this.files.length) && this._lanes < this._waiting()) {
      this._lanes += 1;
      this._lane().finally(() => {
        this._lanes -= 1;
        this._finish();
      });
    }
  }

  _waiting() {
    return this._again.length + this.files.length - this._next + this._lanes;
  }

  async _lane() {
    const { signal } = this._stop;
    while (!signal.aborted && !this.paused) {
      await this._held(signal);
      const batch = await this._batch(signal);
      if (!batch.length) return;
      await this._send(batch, signal);
    }
  }

  // Wait while the server wants to be left alone.
  async _held(signal) {
    while (this.hold && Date.now() < this.hold.until && !signal.aborted) await sleep(200);
    if (this.hold && Date.now() >= this.hold.until) {
      this.hold = null;
      this._changed();
    }
  }

  _take() {
    if (this._again.length) return this._again.shift();
    while (this._next < this.files.length) {
      const file = this.files[this._next];
      this._next += 1;
      if (file.state === "waiting") return file;
    }
    return null;
  }

  // The next files that are worth sending, opened.
  async _batch(signal) {
    const batch = [];
    let bytes = 0;
    while (batch.length < MOST_FILES && !signal.aborted) {
      const file = this._take();
      if (!file) break;
      if (batch.length && (bytes + file.size > MOST_BYTES || this._single.has(file))) {
        this._again.unshift(file);
        break;
      }
      this._state(file, "sending");
      try {
        file.blob = await file.open();
        const head = new Uint8Array(await file.blob.slice(0, 132).arrayBuffer());
        file.magic = hasMagic(head);
        if (!file.blob.size) this._settle(file, "skipped", { reason: "empty" });
        else if (!mayBeDicom(head)) this._settle(file, "skipped", { reason: "not-dicom" });
        else if (isDirectory(file.name)) this._settle(file, "skipped", { reason: "dicomdir" });
        else {
          batch.push(file);
          bytes += file.size;
        }
      } catch (error) {
        this._settle(file, "failed", { reason: error.message?.startsWith("zip.") ? error.message : "unreadable" });
      }
      this._changed();
      if (this._single.has(file)) break;
    }
    return batch;
  }

  async _send(batch, signal) {
    const boundary = `pacs-${crypto.getRandomValues(new Uint32Array(4)).join("-")}`;
    const pieces = batch.flatMap((file) => [`--${boundary}\r\nContent-Type: application/dicom\r\n\r\n`, file.blob, "\r\n"]);
    const body = new Blob([...pieces, `--${boundary}--\r\n`]);
    const whole = batch.reduce((sum, file) => sum + file.size, 0);
    const flight = Symbol("flight");
    this._flying.set(flight, 0);
    let answer;
    try {
      answer = await post("studies", {
        body,
        headers: { "Content-Type": `multipart/related; type="application/dicom"; boundary=${boundary}` },
        signal,
        progress: (loaded) => {
          this._flying.set(flight, Math.min(loaded, whole));
          this._changed();
        },
      });
    } catch (error) {
      this._flying.delete(flight);
      if (error.name === "AbortError") for (const file of batch) this._settle(file, "cancelled");
      else await this._lost(batch, signal);
      return;
    }
    this._flying.delete(flight);
    this._read(batch, answer);
    this._changed();
  }

  _read(batch, { status, header, json }) {
    if (status === 503 || status === 429) {
      const seconds = Number(header("Retry-After"));
      this._hold("busy", Number.isFinite(seconds) && seconds > 0 ? seconds : USUAL_PAUSE_S);
      return this._back(batch);
    }
    const words = (header("X-Pacs-Parts") || "").split(" ").filter(Boolean);
    if ([200, 202, 409].includes(status) && json && words.length === batch.length) {
      const stored = items(json, "00081199"), failed = items(json, "00081198");
      batch.forEach((file, at) => this._result(file, words[at], RESULTS.includes(words[at]) ? stored.shift() : failed.shift()));
    } else if (batch.length > 1) {
      // What is wrong with one of them, or with all at once, shows when each goes alone.
      for (const file of batch) this._single.add(file);
      this._back(batch);
    } else if ((status === 200 || status === 202) && items(json || {}, "00081199").length) {
      this._result(batch[0], "stored", items(json, "00081199")[0]); // by way of a proxy that drops headers
    } else {
      const failure = items(json || {}, "00081198")[0];
      if (failure) this._result(batch[0], (failure["00081197"]?.Value?.[0] ?? 0x110).toString(16).toUpperCase().padStart(4, "0"), failure);
      else this._settle(batch[0], status === 413 ? "refused" : "failed", { code: status === 413 ? "413" : "", reason: status === 401 ? "login" : `http`, comment: json?.detail || `HTTP ${status}` });
    }
  }

  _result(file, word, item) {
    const value = (tag) => item?.[tag]?.Value?.[0] || "";
    const sop = value("00081155");
    if (RESULTS.includes(word)) {
      const study = /\/studies\/([0-9.]+)/.exec(value("00081190"))?.[1] || "";
      this._settle(file, word, { sop, study, comment: value("00000902") });
      if (study) this.studies.set(study, (this.studies.get(study) || 0) + 1);
    } else if (word === "0122" && value("00081150") === MEDIA_DIRECTORY) this._settle(file, "skipped", { reason: "dicomdir", sop, comment: value("00000902") });
    else if (word === "C000" && !file.magic) this._settle(file, "skipped", { reason: "not-dicom" });
    else this._settle(file, "refused", { code: word, sop, comment: value("00000902") });
  }

  // No answer came: is the server away, or is it something about this request?
  async _lost(batch, signal) {
    let isThere = true;
    try {
      await request("session", { signal });
    } catch (error) {
      isThere = !(error instanceof ApiError && [0, 502, 503, 504].includes(error.status));
    }
    if (signal.aborted) {
      for (const file of batch) this._settle(file, "cancelled");
      return;
    }
    const losses = Math.max(...batch.map((file) => (file.losses += isThere ? 1 : 0)));
    if (isThere && losses > LOSSES_ALLOWED) {
      if (batch.length === 1) return this._settle(batch[0], "failed", { reason: "lost" });
      for (const file of batch) {
        this._single.add(file);
        file.losses = 0;
      }
    }
    this._absences = isThere ? 0 : (this._absences || 0) + 1;
    this._hold("away", isThere ? 1 : Math.min(LONGEST_PAUSE_S, 2 * 2 ** Math.min(4, this._absences / REQUESTS)));
    this._back(batch);
  }

  _hold(reason, seconds) {
    const until = Date.now() + 1000 * seconds;
    if (!this.hold || until > this.hold.until) this.hold = { reason, until };
    this._changed();
  }

  _back(batch) {
    for (const file of batch) this._state(file, "waiting");
    this._again.unshift(...batch);
  }

  _state(file, state) {
    this.counts[file.state] -= 1;
    this.counts[state] += 1;
    file.state = state;
    if (state !== "sending") file.blob = null;
  }

  _settle(file, state, more = {}) {
    this._state(file, state);
    this.bytes.done += file.size;
    this._absences = 0;
    Object.assign(file, more);
  }

  _finish() {
    if (this.files.length && !this.isActive && !this.ended) {
      this.ended = Date.now();
      this.dispatchEvent(new Event("end"));
    } else if (!this.paused && !this._stop.signal.aborted) this._begin();
    this._changed();
  }

  // Told at most ten times a second, however much happens.
  _changed() {
    if (this._told) return;
    this._told = true;
    setTimeout(() => {
      this._told = false;
      this.dispatchEvent(new Event("change"));
    }, 100);
  }
}

const items = (json, tag) => [...(json[tag]?.Value || [])];
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const isDirectory = (name) => name.replaceAll(":", "/").split("/").pop().toUpperCase() === "DICOMDIR";

export const uploads = new Uploads();

window.addEventListener("beforeunload", (event) => {
  if (uploads.isActive) event.preventDefault();
});
