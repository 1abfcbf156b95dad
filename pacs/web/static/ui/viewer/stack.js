// From the metadata of a series to the stacks that are scrolled through, in order.

import { all, first } from "../core/dicom.js";
import { group, number, numbers, text, value, values } from "./attributes.js";
import { aspectOf, directionsOf, dot, isQuadruped, planeOf, regionsOf, spacingOf } from "./geometry.js";

const MOST_GAPS = 0.5;

// [{key, kind: "image" | "other", label, images: [image], sopUid, fps}]. An image is one frame, see `imageOf`. What has
// no pixel data, or is a film, is "other". syntaxes: transfer syntax by SOP Instance UID, as far as it is known.
export function stacksOf(instances, syntaxes) {
  const stacks = [];
  let still = null;
  for (const attributes of [...instances].sort(byInstanceNumber)) {
    const sopUid = value(attributes, "00080018");
    const syntax = syntaxes.get(sopUid) ?? "";
    const hasPixels = ["7FE00010", "7FE00008", "7FE00009"].some((tag) => attributes[tag]) && number(attributes, "00280010", 0) > 0;
    if (!hasPixels || isVideo(syntax)) {
      stacks.push({ key: sopUid, kind: "other", label: labelOf(attributes), sopUid, attributes, images: [] });
      continue;
    }
    const frames = Math.max(1, Math.floor(number(attributes, "00280008", 1)));
    const shared = sharedOf(attributes, syntax);
    const images = Array.from({ length: frames }, (_, index) => imageOf(shared, attributes, index));
    if (frames > 1) {
      stacks.push({ key: sopUid, kind: "image", label: labelOf(attributes), sopUid, images: sortedFrames(images), fps: rateOf(attributes, frames) });
      continue;
    }
    if (!still) stacks.push((still = { key: "", kind: "image", label: "", sopUid, images: [], fps: 10 }));
    still.images.push(...images);
  }
  if (still) {
    still.images = sorted(still.images);
    still.sopUid = still.images[0].sopUid;
  }
  return stacks;
}

const isVideo = (syntax) => /^1\.2\.840\.10008\.1\.2\.4\.10\d/.test(syntax);

function byInstanceNumber(one, other) {
  return number(one, "00200013", Infinity) - number(other, "00200013", Infinity) || text(one, "00080018").localeCompare(text(other, "00080018")) || 0;
}

function labelOf(attributes) {
  return text(attributes, "00420010") || text(attributes, "0008103E") || text(attributes, "00080060");
}

// What all frames of an instance have in common.
function sharedOf(attributes, syntax) {
  const photometric = text(attributes, "00280004") || "MONOCHROME2";
  const allocated = attributes["7FE00008"] ? 32 : attributes["7FE00009"] ? 64 : number(attributes, "00280100", 16);
  const stored = number(attributes, "00280101", allocated);
  const high = number(attributes, "00280102", stored - 1);
  const isSane = stored > 0 && stored <= allocated && high >= stored - 1 && high < allocated;
  const paddings = [number(attributes, "00280120"), number(attributes, "00280121", number(attributes, "00280120"))];
  return {
    sopUid: value(attributes, "00080018"),
    seriesUid: value(attributes, "0020000E"),
    attributes,
    syntax,
    instanceNumber: number(attributes, "00200013"),
    modality: text(attributes, "00080060"),
    rows: number(attributes, "00280010", 0),
    columns: number(attributes, "00280011", 0),
    samples: number(attributes, "00280002", 1),
    photometric,
    isPlanar: number(attributes, "00280006", 0) === 1,
    isSigned: number(attributes, "00280103", 0) === 1,
    isFloat: Boolean(attributes["7FE00008"] || attributes["7FE00009"]),
    allocated,
    stored: isSane ? stored : allocated,
    high: isSane ? high : allocated - 1,
    isInverse: photometric === "MONOCHROME1" || text(attributes, "20500020") === "INVERSE",
    padding: paddings[0] === undefined ? null : [Math.min(...paddings), Math.max(...paddings)],
    regions: regionsOf(attributes),
    directions: directionsOf(attributes),
    isQuadruped: isQuadruped(attributes),
    frameOfReferenceUid: text(attributes, "00200052"),
    lossy: text(attributes, "00282110") === "01" ? (numbers(attributes, "00282112").at(-1) ?? true) : null,
  };
}

// One frame. frame: its number within the instance, from 1. windows: [{name, center, width, shape}] of the file.
function imageOf(shared, attributes, index) {
  const modality = group(attributes, index, "00289145") ?? attributes;
  const scaling = modality["00281053"] ? undefined : number(attributes, "3004000E");
  return {
    ...shared,
    key: `${shared.sopUid}/${index + 1}`,
    frame: index + 1,
    plane: planeOf(attributes, index),
    spacing: spacingOf(attributes, index),
    aspect: aspectOf(attributes, index),
    slope: scaling || number(modality, "00281053", 1) || 1, // Dose Grid Scaling (PS3.3 C.8.8.3): to the unit of dose
    intercept: number(modality, "00281052", 0),
    unit: unitOf(attributes, modality),
    windows: windowsOf(attributes, index),
    thickness: number(group(attributes, index, "00289110") ?? attributes, "00180050"),
  };
}

function unitOf(attributes, modality) {
  const said = text(modality, "00281054");
  if (text(attributes, "00080060") === "PT" && text(attributes, "00541001")) return text(attributes, "00541001");
  if (text(attributes, "00080060") === "RTDOSE") return text(attributes, "30040002");
  if (said && said !== "US") return said;
  const isCt = text(attributes, "00080060") === "CT" && values(attributes, "00080008")[0] === "ORIGINAL";
  return !said && isCt && modality["00281052"] ? "HU" : "";
}

function windowsOf(attributes, index) {
  const found = [];
  for (const place of [group(attributes, index, "00289132"), attributes]) {
    const [centers, widths, names] = [numbers(place, "00281050"), numbers(place, "00281051"), values(place, "00281055")];
    const said = text(place, "00281056");
    const shape = ["LINEAR_EXACT", "SIGMOID"].includes(said) ? said : "LINEAR";
    centers.forEach((center, at) => {
      const width = widths[at];
      if (width >= 1 || (width > 0 && shape !== "LINEAR")) found.push({ name: String(names[at] ?? "").trim(), center, width, shape });
    });
    if (found.length) break;
  }
  return found;
}

// Along the normal where every image has a place of its own; else by Instance Number, as they come in.
function sorted(images) {
  const depths = depthsOf(images);
  if (!depths) return images;
  const order = images.map((image, at) => ({ image, at, depth: depths[at] })).sort((one, other) => one.depth - other.depth || one.at - other.at);
  // Head first or feet first: as the scanner numbered them.
  const rising = order.reduce((sum, each, place) => sum + (each.at - (order.length - 1) / 2) * (place - (order.length - 1) / 2), 0);
  if (rising < 0) order.reverse();
  order.forEach((each) => (each.image.depth = each.depth));
  return order.map((each) => each.image);
}

// Frames of an enhanced image are sorted as slices are; those of a film stay as they are.
function sortedFrames(images) {
  return values(images[0].attributes, "52009230").length === images.length ? sorted(images) : images;
}

function depthsOf(images) {
  const main = images[0].plane;
  if (images.length < 2 || !main) return null;
  const depths = [];
  for (const { plane } of images) {
    if (!plane?.position || dot(plane.row, main.row) < 0.99 || dot(plane.column, main.column) < 0.99) return null;
    depths.push(dot(plane.position, main.normal));
  }
  const different = new Set(depths.map((depth) => depth.toFixed(2))).size;
  return different >= depths.length * MOST_GAPS + 1 || different === depths.length ? depths : null;
}

// Frames a second (PS3.3 C.7.6.5): what is recommended, else by Frame Time.
function rateOf(attributes, frames) {
  const vector = numbers(attributes, "00181065");
  const mean = vector.length > 1 ? vector.slice(1).reduce((sum, each) => sum + each, 0) / (vector.length - 1) : 0;
  const ms = number(attributes, "00181063", 0) || mean;
  const rate = number(attributes, "00082144") || number(attributes, "00180040") || (ms > 0 ? 1000 / ms : 0) || (number(attributes, "00081153") && frames) || 10;
  return Math.min(60, Math.max(1, Math.round(rate * 10) / 10));
}

// What the strip shows of a series before its metadata are there.
export function seriesOf(row) {
  return {
    uid: first(row, "0020000E"),
    number: first(row, "00200011"),
    modality: first(row, "00080060") ?? "",
    description: first(row, "0008103E") ?? "",
    count: first(row, "00201209") ?? 0,
    classes: all(row, "00080062"),
  };
}
