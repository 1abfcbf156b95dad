// Reading DICOM JSON (PS3.18 F): values by tag, functional groups, and binary values wherever they are.

import { request } from "../core/api.js";

export const value = (item, tag, otherwise = undefined) => item?.[tag]?.Value?.[0] ?? otherwise;
export const values = (item, tag) => item?.[tag]?.Value ?? [];
export const text = (item, tag) => String(value(item, tag, "")).trim();

// A number, also where it came as text; undefined when it is none.
export function number(item, tag, otherwise = undefined) {
  return toNumber(value(item, tag), otherwise);
}

export function numbers(item, tag) {
  return values(item, tag).map((each) => toNumber(each)).filter((each) => each !== undefined);
}

function toNumber(found, otherwise = undefined) {
  if (found === undefined || found === null || found === "") return otherwise;
  const parsed = Number(found);
  return Number.isFinite(parsed) ? parsed : otherwise;
}

// A functional group macro of frame `index` (from 0): the frame's own, else the shared one (PS3.3 C.7.6.16).
export function group(attributes, index, tag) {
  const own = values(attributes, "52009230")[index];
  return value(own, tag) ?? value(value(attributes, "52009229"), tag);
}

// Bytes of a binary element, inline or from its BulkDataURI. Throws ApiError.
export async function binary(element, signal) {
  if (element?.InlineBinary !== undefined) return Uint8Array.from(atob(element.InlineBinary), (each) => each.charCodeAt(0));
  if (!element?.BulkDataURI) return new Uint8Array();
  // The server may know itself by another name than the page does: only what is below the root is taken.
  const path = element.BulkDataURI.slice(element.BulkDataURI.indexOf("/studies/") + 1);
  const response = await request(path, { headers: { Accept: "application/octet-stream" }, signal });
  return new Uint8Array(await response.arrayBuffer());
}
