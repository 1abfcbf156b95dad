// Where an image lies in the patient, how large its pixels are, and which way a turned image points.

import { group, number, numbers, text, value, values } from "./attributes.js";

export const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
export const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];

// {row, column, position}: unit vectors of rising column and row index, and the first pixel's place in mm (PS3.3
// C.7.6.2.1.1); null unless all is said and makes sense. index: of the frame, from 0.
export function planeOf(attributes, index) {
  const cosines = numbers(group(attributes, index, "00209116") ?? attributes, "00200037");
  const position = numbers(group(attributes, index, "00209113") ?? attributes, "00200032");
  if (cosines.length !== 6) return null;
  const [row, column] = [cosines.slice(0, 3), cosines.slice(3)];
  const isRight = Math.abs(dot(row, row) - 1) < 0.02 && Math.abs(dot(column, column) - 1) < 0.02 && Math.abs(dot(row, column)) < 0.02;
  if (!isRight) return null;
  return { row, column, normal: cross(row, column), position: position.length === 3 ? position : null };
}

// {row, column, source}: mm between rows and between columns; source: "patient", "calibrated", "detector" or "scanned".
// null: not known. PS3.3 10.7.1.
export function spacingOf(attributes, index) {
  const measures = group(attributes, index, "00289110");
  const pair = (item, tag) => {
    const found = numbers(item, tag);
    return found.length === 2 && found[0] > 0 && found[1] > 0 ? found : null;
  };
  const [pixel, detector, scanned] = [pair(measures, "00280030") ?? pair(attributes, "00280030"), pair(attributes, "00181164"), pair(attributes, "00182010")];
  const isProjection = ["CR", "DX", "MG", "RF", "XA", "IO", "PX", "RG"].includes(text(attributes, "00080060"));
  if (pixel) {
    const isDetector = detector && pixel.every((each, axis) => Math.abs(each - detector[axis]) < 1e-6);
    const source = isDetector ? "detector" : detector || attributes["00280A02"] ? "calibrated" : isProjection ? "detector" : "patient";
    return { row: pixel[0], column: pixel[1], source };
  }
  if (detector) return { row: detector[0], column: detector[1], source: "detector" };
  if (scanned) return { row: scanned[0], column: scanned[1], source: "scanned" };
  return null;
}

// Regions of an ultrasound image whose axes are both in cm (PS3.3 C.8.5.5): {left, top, right, bottom, column, row}, mm.
export function regionsOf(attributes) {
  return values(attributes, "00186011")
    .filter((item) => number(item, "00186024") === 3 && number(item, "00186026") === 3)
    .map((item) => ({
      left: number(item, "00186018", 0), top: number(item, "0018601A", 0), right: number(item, "0018601C", 0), bottom: number(item, "0018601E", 0),
      column: Math.abs(number(item, "0018602C", 0)) * 10, row: Math.abs(number(item, "0018602E", 0)) * 10,
    }))
    .filter((region) => region.column > 0 && region.row > 0);
}

// Height by width of one pixel; the order of sources is that of the server's own pictures.
export function aspectOf(attributes, index) {
  const places = [[attributes, "00280034"], [attributes, "00280030"], [attributes, "00181164"], [attributes, "00182010"], [group(attributes, index, "00289110"), "00280030"]];
  for (const [item, tag] of places) {
    const [vertical, horizontal] = numbers(item, tag);
    if (vertical > 0 && horizontal > 0 && vertical / horizontal >= 0.05 && vertical / horizontal <= 20) return vertical / horizontal;
  }
  return 1;
}

// Length between two points in pixels: {value, unit: "mm" | "px", source}.
export function lengthOf(image, from, to) {
  const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
  const within = (region, [x, y]) => x >= region.left && x <= region.right + 1 && y >= region.top && y <= region.bottom + 1;
  const region = image.regions.find((each) => within(each, from) && within(each, to));
  if (region) return { value: Math.hypot(dx * region.column, dy * region.row), unit: "mm", source: "region" };
  if (image.spacing) return { value: Math.hypot(dx * image.spacing.column, dy * image.spacing.row), unit: "mm", source: image.spacing.source };
  return { value: Math.hypot(dx, dy), unit: "px", source: "none" };
}

// Turned: quarter turns clockwise after a flip left to right. As a matrix [a, b, c, d] from image to screen:
// x' = a x + c y, y' = b x + d y. Every turn and flip of a picture is one of these eight.
export function matrixOf({ turns, flipped }) {
  const [cosine, sine] = [[1, 0], [0, 1], [-1, 0], [0, -1]][((turns % 4) + 4) % 4];
  const mirror = flipped ? -1 : 1;
  return [cosine * mirror, sine * mirror, -sine, cosine];
}

export const turned = (state, quarter) => ({ ...state, turns: (state.turns + quarter + 4) % 4 });
// Left and right of the screen change places, whichever way the picture is turned.
export const flippedSideways = ({ turns, flipped }) => ({ turns: (4 - turns) % 4, flipped: !flipped });
export const flippedOver = (state) => turned(flippedSideways(state), 2);

const OPPOSITE = { L: "R", R: "L", A: "P", P: "A", H: "F", F: "H" };
const opposite = (letters) => [...letters].map((each) => OPPOSITE[each]).join("");

// Letters at {left, right, top, bottom} of the screen; all "" when the image does not say. PS3.3 C.7.6.1.1.1.
export function lettersOf(image, turn) {
  const [a, b, c, d] = matrixOf(turn);
  // What points right on the screen is the image's x times a, or its y times c; what points down, b and d.
  const along = (x, y) => {
    if (image.plane) return lettersOfVector(image.plane.row.map((each, axis) => each * x + image.plane.column[axis] * y));
    if (!image.directions) return "";
    const letters = image.directions[x ? 0 : 1];
    return (x || y) > 0 ? letters : opposite(letters);
  };
  const [right, bottom] = image.isQuadruped ? ["", ""] : [along(a, c), along(b, d)];
  return { right, bottom, left: opposite(right), top: opposite(bottom) };
}

// The axes that a direction in the patient (x to the left, y to the back, z to the head) has a share in, largest first.
export function lettersOfVector(vector) {
  const named = ["LR", "PA", "HF"].map((pair, axis) => [Math.abs(vector[axis]), vector[axis] > 0 ? pair[0] : pair[1]]);
  return named.filter(([share]) => share > 0.17).sort((one, other) => other[0] - one[0]).map(([, letter]) => letter).join("");
}

// Patient Orientation of images without a plane (PS3.3 C.7.6.1.1.1), as letters of both axes; null unless it is usable.
export function directionsOf(attributes) {
  const found = values(attributes, "00200020").map((each) => String(each).trim());
  return found.length === 2 && found.every((each) => /^[LRAPHF]{1,3}$/.test(each)) ? found : null;
}

export const isQuadruped = (attributes) => value(attributes, "00102210") === "QUADRUPED";
