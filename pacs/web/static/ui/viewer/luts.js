// Look-up tables and windows of PS3.3 C.11: from stored values to grey, as functions of one number.

import { binary, number, numbers, text, values } from "./attributes.js";

// {first, bits, entries, name}; the entry of a value is that of the nearest end when it lies outside.
export const entryOf = (table, stored) =>
  table.entries[Math.min(Math.max(Math.round(stored) - table.first, 0), table.entries.length - 1)];

// Modality value to 0…1 (C.11.2.1.2). shape: LINEAR, LINEAR_EXACT or SIGMOID.
export function windowed({ center, width, shape = "LINEAR" }) {
  if (shape === "SIGMOID") return (value) => 1 / (1 + Math.exp((-4 * (value - center)) / width));
  if (shape === "LINEAR_EXACT") return (value) => clamp((value - center) / width + 0.5);
  // A width of 1 is a threshold: the formula would divide by nothing.
  if (width <= 1) return (value) => (value > center - 0.5 ? 1 : 0);
  return (value) => clamp((value - (center - 0.5)) / (width - 1) + 0.5);
}

const clamp = (share) => (share < 0 ? 0 : share > 1 ? 1 : share);

// Tables of an instance: {modality, voi: [table], palette: [red, green, blue] | null}. Fetches what is not inline.
export async function tablesOf(image, signal) {
  const { attributes } = image;
  const modality = await firstUsable(values(attributes, "00283000"), image.isSigned, signal);
  const low = Math.min(image.intercept, image.slope * -(2 ** (image.stored - 1)) + image.intercept);
  const mayBeNegative = image.isSigned || (modality.length === 0 && (low < 0 && image.intercept < 0));
  const voi = await firstUsable(values(attributes, "00283010"), mayBeNegative, signal);
  return { modality: modality[0] ?? null, voi, palette: image.photometric === "PALETTE COLOR" ? await paletteOf(image, signal) : null };
}

async function firstUsable(items, isSigned, signal) {
  const found = await Promise.all(items.map((item) => tableOf(item, ["00283002", "00283006"], isSigned, signal)));
  return found.filter(Boolean);
}

// C.7.6.3.1.5, C.7.6.3.1.6, segmented ones expanded (C.7.9.2); null when one is missing.
async function paletteOf(image, signal) {
  const tables = await Promise.all([1, 2, 3].map((channel) => {
    const plain = `0028120${channel}`;
    const data = image.attributes[plain] ? plain : `0028122${channel}`;
    return tableOf(image.attributes, [`0028110${channel}`, data], image.isSigned, signal);
  }));
  if (tables.some((table) => !table)) return null;
  // Met in the field: 16 bits promised, entries of 8 given.
  const isNarrow = tables[0].bits === 16 && tables.every((table) => table.entries.every((entry) => entry < 256));
  return isNarrow ? tables.map((table) => ({ ...table, bits: 8 })) : tables;
}

async function tableOf(item, [descriptorTag, dataTag], isSigned, signal) {
  const descriptor = numbers(item, descriptorTag);
  const data = item[dataTag];
  if (descriptor.length !== 3 || !data) return null;
  const count = descriptor[0] & 0xffff || 65536;
  const first = isSigned ? (descriptor[1] << 16) >> 16 : descriptor[1] & 0xffff;
  const bits = descriptor[2] >= 1 && descriptor[2] <= 16 ? descriptor[2] : 16;
  let entries;
  if (data.Value) entries = Uint16Array.from(data.Value, (entry) => Number(entry) & 0xffff);
  else {
    const bytes = await binary(data, signal);
    const words = () => new Uint16Array(bytes.slice(0, bytes.length & ~1).buffer);
    if (dataTag.startsWith("0028122")) entries = expanded(words(), count);
    else if (bits <= 8 && bytes.length < 2 * count) entries = Uint16Array.from(bytes); // two entries a word
    else entries = words();
    if (bits <= 8 && entries.some((entry) => entry > 255)) entries = entries.map((entry) => entry >> 8); // in the high byte
  }
  entries = entries.slice(0, count);
  return entries.length ? { first, bits, entries, name: text(item, "00283003") } : null;
}

// Discrete, linear and indirect segments to `count` entries at most (C.7.9.2). Stops at what cannot be right.
export function expanded(words, count) {
  const out = [];
  const run = (at, segments) => {
    for (; at + 2 <= words.length && out.length < count && segments !== 0; segments -= 1) {
      const [code, length] = [words[at], words[at + 1]];
      if (code === 0) {
        for (let step = 0; step < length && at + 2 + step < words.length; step += 1) out.push(words[at + 2 + step]);
        at += 2 + length;
      } else if (code === 1 && out.length && at + 3 <= words.length) {
        const [start, end] = [out.at(-1), words[at + 2]];
        for (let step = 1; step <= length; step += 1) out.push(Math.floor(start + ((end - start) * step) / length + 0.5));
        at += 3;
      } else if (code === 2 && segments < 0 && at + 4 <= words.length) {
        run(((words[at + 3] << 16) | words[at + 2]) / 2, length);
        at += 4;
      } else return;
    }
  };
  run(0, -1);
  return Uint16Array.from(out.slice(0, count));
}

// A window that fractional segmentations have, whatever a frame shows of it (C.8.20.2.3).
export function fractionWindow(attributes) {
  if (text(attributes, "00620001") !== "FRACTIONAL") return null;
  const top = number(attributes, "0062000E", 255) || 255;
  return { name: "", center: top / 2, width: top, shape: "LINEAR_EXACT" };
}
