// Pixels of one frame: from the bytes of the server to samples, and from samples to what a canvas shows.
//
// Up to 16 bits all of the grey pipeline (bits stored, sign, modality, window, inversion, palette) is one table over the
// codes that a sample can have, so that a frame is drawn by one look-up a pixel, whatever it needs.

import { entryOf, fractionWindow, windowed } from "./luts.js";

const OPAQUE = 0xff000000;

const SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4";

// How a frame is fetched: as native samples, or as the server's picture where colours have to be understood first, or
// are those of a segment.
export function isNative(image) {
  if (image.attributes["00080016"]?.Value?.[0] === SEGMENTATION_STORAGE) return false;
  if (image.samples === 1) return [1, 8, 16, 32, 64].includes(image.allocated);
  return image.samples === 3 && image.photometric === "RGB" && [8, 16].includes(image.allocated) && /^1\.2\.840\.10008\.1\.2(\.1|\.2|\.1\.99)?$/.test(image.syntax);
}

// {kind: "codes" | "numbers" | "colour", data, min, max, bytes}. codes: unsigned, as stored. numbers: floating point or
// more than 16 bits. colour: RGBA of each pixel. min, max: modality values, padding left out. Throws Error("short").
export function samplesOf(image, buffer, tables) {
  const count = image.rows * image.columns;
  const size = image.allocated === 1 ? Math.ceil(count / 8) : (count * image.samples * image.allocated) / 8;
  if (buffer.byteLength < size) throw new Error("short");
  if (image.samples === 3) return { kind: "colour", data: colours(image, buffer, count), bytes: count * 4 };
  if (image.allocated > 16 || image.isFloat) return wide(image, buffer, count, tables);
  let data;
  if (image.allocated === 1) {
    const bits = new Uint8Array(buffer);
    data = new Uint8Array(count);
    for (let at = 0; at < count; at += 1) data[at] = (bits[at >> 3] >> (at & 7)) & 1;
  } else data = image.allocated === 8 ? new Uint8Array(buffer, 0, count) : new Uint16Array(buffer, 0, count);
  const samples = { kind: "codes", data, bytes: data.byteLength };
  if (image.photometric !== "PALETTE COLOR") Object.assign(samples, rangeOfCodes(image, data, tables));
  return samples;
}

// Of the server's picture, which has the overlay planes in it.
export function samplesOfPicture(rgba) {
  return { kind: "colour", data: new Uint32Array(rgba.buffer), bytes: rgba.byteLength, hasPlanes: true };
}

// The stored value of a code: the bits outside are cleared, the sign is taken from the highest stored bit.
export function storedValue(image, code) {
  if (image.allocated === 1) return code;
  const unused = 32 - image.stored;
  const atTop = (code >> (image.high + 1 - image.stored)) << unused;
  return image.isSigned ? atTop >> unused : atTop >>> unused;
}

export function modalityValue(image, tables, stored) {
  return tables.modality ? entryOf(tables.modality, stored) : stored * image.slope + image.intercept;
}

// What lies at a pixel: {value} in modality units, {rgb}, or null outside.
export function probe(image, samples, tables, x, y) {
  if (x < 0 || y < 0 || x >= image.columns || y >= image.rows) return null;
  const raw = samples.data[y * image.columns + x];
  if (samples.kind === "colour") return { rgb: [raw & 255, (raw >> 8) & 255, (raw >> 16) & 255] };
  if (tables.palette) return { rgb: paletteColour(tables.palette, storedValue(image, raw)) };
  return { value: modalityValue(image, tables, samples.kind === "codes" ? storedValue(image, raw) : raw) };
}

// The window that a frame is shown with: the chosen one, else the file's own first table or window, else its whole
// range. chosen: {center, width, shape}, {table: number} or null. null: no window applies (colour as it is).
export function windowOf(image, samples, tables, chosen) {
  if (samples.kind === "colour" || image.photometric === "PALETTE COLOR") return chosen && chosen.table === undefined ? chosen : null;
  const isUsable = chosen && (chosen.table === undefined || tables.voi[chosen.table]);
  if (isUsable) return chosen;
  if (image.allocated === 1) return { center: 0.5, width: 1, shape: "LINEAR_EXACT" };
  if (tables.voi.length) return { table: 0 };
  return image.windows[0] ?? fractionWindow(image.attributes) ?? wholeRange(samples);
}

export function wholeRange({ min, max }) {
  return { center: (min + max) / 2, width: max - min || 1, shape: "LINEAR_EXACT", isWhole: true };
}

// As center and width, so that dragging goes on from where it is.
export function asWindow(window, tables) {
  if (!window) return { center: 127.5, width: 255, shape: "LINEAR_EXACT" };
  if (window.table === undefined) return window;
  const { first, entries } = tables.voi[window.table];
  return { center: first + entries.length / 2, width: entries.length, shape: "LINEAR" };
}

// Draw into `out` (a Uint32Array of the canvas's RGBA). One pass.
export function paint(image, samples, tables, window, isInverted, out) {
  const { data } = samples;
  const count = out.length;
  if (samples.kind === "colour") {
    if (!window && !isInverted) return void out.set(data);
    const shade = channelTable(window, isInverted);
    for (let at = 0; at < count; at += 1) {
      const pixel = data[at];
      out[at] = OPAQUE | (shade[(pixel >> 16) & 255] << 16) | (shade[(pixel >> 8) & 255] << 8) | shade[pixel & 255];
    }
    return;
  }
  const inverse = image.photometric === "PALETTE COLOR" ? isInverted : isInverted !== image.isInverse;
  if (samples.kind === "codes") {
    const table = codeTable(image, tables, window, inverse);
    for (let at = 0; at < count; at += 1) out[at] = table[data[at]];
    return;
  }
  const grey = greyOf(tables, window);
  for (let at = 0; at < count; at += 1) out[at] = packed(grey(modalityValue(image, tables, data[at])), inverse);
}

function codeTable(image, tables, window, inverse) {
  const table = new Uint32Array(image.allocated === 1 ? 2 : 2 ** image.allocated);
  if (tables.palette) {
    const shade = channelTable(window, inverse);
    for (let code = 0; code < table.length; code += 1) {
      const [red, green, blue] = paletteColour(tables.palette, storedValue(image, code));
      table[code] = OPAQUE | (shade[blue] << 16) | (shade[green] << 8) | shade[red];
    }
    return table;
  }
  const grey = greyOf(tables, window);
  for (let code = 0; code < table.length; code += 1) table[code] = packed(grey(modalityValue(image, tables, storedValue(image, code))), inverse);
  return table;
}

// From modality value to 0…1.
function greyOf(tables, window) {
  const voi = window.table === undefined ? null : tables.voi[window.table];
  const top = voi && 2 ** voi.bits - 1;
  return voi ? (value) => Math.min(entryOf(voi, value) / top, 1) : windowed(window);
}

function packed(share, inverse) {
  const eight = Math.floor((share || 0) * 255 + 0.5);
  const grey = inverse ? 255 - eight : eight;
  return OPAQUE | (grey << 16) | (grey << 8) | grey;
}

function channelTable(window, isInverted) {
  const shade = window ? windowed(window) : (value) => value / 255;
  return Uint8Array.from({ length: 256 }, (_, value) => {
    const eight = Math.floor(shade(value) * 255 + 0.5);
    return isInverted ? 255 - eight : eight;
  });
}

function paletteColour(palette, stored) {
  return palette.map((table) => {
    const entry = entryOf(table, stored);
    return table.bits === 16 ? entry >> 8 : Math.floor((entry * 255) / (2 ** table.bits - 1) + 0.5);
  });
}

function colours(image, buffer, count) {
  const data = image.allocated === 8 ? new Uint8Array(buffer, 0, count * 3) : new Uint16Array(buffer, 0, count * 3);
  const out = new Uint32Array(count);
  const shift = image.high + 1 - 8;
  const [step, green, blue] = image.isPlanar ? [1, count, 2 * count] : [3, 1, 2];
  const eight = shift >= 0 ? (sample) => (sample >> shift) & 255 : (sample) => (sample << -shift) & 255;
  for (let at = 0, from = 0; at < count; at += 1, from += step)
    out[at] = OPAQUE | (eight(data[from + blue]) << 16) | (eight(data[from + green]) << 8) | eight(data[from]);
  return out;
}

// Which codes occur is marked first, so that only those are mapped.
function rangeOfCodes(image, data, tables) {
  const present = new Uint8Array(image.allocated === 1 ? 2 : 2 ** image.allocated);
  for (let at = 0; at < data.length; at += 1) present[data[at]] = 1;
  const range = (padding) => {
    let [min, max] = [Infinity, -Infinity];
    for (let code = 0; code < present.length; code += 1) {
      if (!present[code]) continue;
      const stored = storedValue(image, code);
      if (padding && isPadding(padding, stored)) continue;
      const value = modalityValue(image, tables, stored);
      if (value < min) min = value;
      if (value > max) max = value;
    }
    return { min, max };
  };
  const found = range(image.padding);
  return found.min <= found.max ? found : range(null); // nothing but padding
}

const isPadding = ([low, high], stored) => stored >= low && stored <= high;

function wide(image, buffer, count, tables) {
  const [Floats, Signed, Unsigned] = image.allocated === 64 ? [Float64Array, BigInt64Array, BigUint64Array] : [Float32Array, Int32Array, Uint32Array];
  const raw = new (image.isFloat ? Floats : image.isSigned ? Signed : Unsigned)(buffer, 0, count);
  const data = raw instanceof BigInt64Array || raw instanceof BigUint64Array ? Float64Array.from(raw, Number) : raw;
  let [min, max] = [Infinity, -Infinity];
  for (let at = 0; at < count; at += 1) {
    const value = data[at];
    if (!Number.isFinite(value) || (image.padding && isPadding(image.padding, value))) continue;
    if (value < min) min = value;
    if (value > max) max = value;
  }
  const ends = min <= max ? [min, max].map((each) => modalityValue(image, tables, each)) : [0, 0];
  return { kind: "numbers", data, min: Math.min(...ends), max: Math.max(...ends), bytes: data.byteLength };
}
