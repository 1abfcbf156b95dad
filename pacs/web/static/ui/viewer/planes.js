// Overlay planes of a data set (groups 60xx, PS3.3 C.9.2): marks such as L and R on radiographs. Drawn white.

import { binary, number, numbers } from "./attributes.js";

const MOST_PLANES = 16;

// [{rows, columns, top, left, firstFrame, frames, bits}] of an instance; those without data of their own are left out.
export async function planesOf({ attributes }, signal) {
  const found = [];
  for (let at = 0; at < MOST_PLANES; at += 1) {
    const group = (0x6000 + 2 * at).toString(16);
    const data = attributes[`${group}3000`];
    const [rows, columns] = [number(attributes, `${group}0010`, 0), number(attributes, `${group}0011`, 0)];
    if (!data || rows <= 0 || columns <= 0) continue;
    const [top = 1, left = 1] = numbers(attributes, `${group}0050`);
    const frames = number(attributes, `${group}0015`, 1);
    found.push({ rows, columns, top: top - 1, left: left - 1, frames, firstFrame: number(attributes, `${group}0051`, 1), bits: await binary(data, signal) });
  }
  return found;
}

// Onto RGBA pixels of a frame (from 1) of `image`.
export function drawPlanes(planes, image, out) {
  for (const plane of planes) {
    const number = image.frame - plane.firstFrame;
    const start = number * plane.rows * plane.columns;
    if (number < 0 || number >= plane.frames || plane.bits.length * 8 < start + plane.rows * plane.columns) continue;
    for (let y = Math.max(0, -plane.top); y < plane.rows && y + plane.top < image.rows; y += 1) {
      for (let x = Math.max(0, -plane.left); x < plane.columns && x + plane.left < image.columns; x += 1) {
        const bit = start + y * plane.columns + x;
        if ((plane.bits[bit >> 3] >> (bit & 7)) & 1) out[(y + plane.top) * image.columns + x + plane.left] = 0xffffffff;
      }
    }
  }
}
