// Requests to this archive. Addresses are relative to the page, so that it works behind any prefix of a proxy.

import { config } from "./config.js";

export class ApiError extends Error {
  // status: HTTP, 0 when no answer came. parameter: what was wrong, where the server says it.
  constructor(status, detail, parameter = "") {
    super(detail);
    this.status = status;
    this.parameter = parameter;
  }
}

let csrf = "";

export function setCsrf(token) {
  csrf = token;
}

// The address of a path below the DICOMweb root. query: values of null, undefined and "" are left out; arrays repeat.
export function address(path, query = {}) {
  const url = new URL(`${config.api ? `${config.api}/` : ""}${path.replace(/^\//, "")}`, document.baseURI);
  for (const [name, value] of Object.entries(query)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && each !== undefined && each !== "") url.searchParams.append(name, each);
    }
  }
  return url.href;
}

// The response, whatever its body. Throws ApiError for what is not 2xx. "unauthorized" is announced on the window.
export async function request(path, { method = "GET", query, headers = {}, body, json, signal } = {}) {
  const sent = { Accept: "application/json", ...headers };
  if (json !== undefined) {
    sent["Content-Type"] = "application/json";
    body = JSON.stringify(json);
  }
  if (csrf && method !== "GET" && method !== "HEAD") sent["X-Pacs-Csrf"] = csrf;
  let response;
  try {
    response = await fetch(address(path, query), { method, headers: sent, body, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "");
  }
  if (response.ok || response.status === 304) return response;
  throw await errorOf(response);
}

export async function errorOf(response) {
  let problem = {};
  try {
    problem = await response.json();
  } catch {
    // not ours: a proxy's page
  }
  if (response.status === 401) window.dispatchEvent(new CustomEvent("unauthorized"));
  return new ApiError(response.status, problem.detail || response.statusText, problem.parameter);
}

// POST a large body and hear how much of it has left: fetch does not tell. Resolves with {status, header(name), json},
// whatever the status; json is null when the body is none. Throws ApiError(0) when no answer came.
export function post(path, { body, headers = {}, signal, progress } = {}) {
  return new Promise((resolve, reject) => {
    const asked = new XMLHttpRequest();
    const stop = () => asked.abort();
    asked.open("POST", address(path));
    for (const [name, value] of Object.entries({ Accept: "application/dicom+json, application/json", ...headers })) asked.setRequestHeader(name, value);
    if (csrf) asked.setRequestHeader("X-Pacs-Csrf", csrf);
    if (progress) asked.upload.addEventListener("progress", (event) => progress(event.loaded));
    asked.addEventListener("load", () => {
      if (asked.status === 401) window.dispatchEvent(new CustomEvent("unauthorized"));
      resolve({ status: asked.status, header: (name) => asked.getResponseHeader(name), json: parsed(asked.responseText) });
    });
    asked.addEventListener("error", () => reject(new ApiError(0, "")));
    asked.addEventListener("abort", () => reject(new DOMException("", "AbortError")));
    asked.addEventListener("loadend", () => signal?.removeEventListener("abort", stop));
    if (signal?.aborted) return reject(new DOMException("", "AbortError"));
    signal?.addEventListener("abort", stop);
    asked.send(body);
  });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // not ours: a proxy's page
  }
}

// Parsed JSON; null for 204.
export async function json(path, options = {}) {
  const response = await request(path, options);
  return response.status === 204 ? null : response.json();
}

// QIDO-RS: {rows, more}. more: whether there are further rows than these.
export async function search(path, { query, signal } = {}) {
  const response = await request(path, { query, signal, headers: { Accept: "application/dicom+json" } });
  const rows = response.status === 204 ? [] : await response.json();
  return { rows, more: (response.headers.get("Link") || "").includes('rel="next"'), headers: response.headers };
}
