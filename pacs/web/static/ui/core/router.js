// The address after "#" names the view: /#/studies/1.2.3?tab=tags. Only one view is there at a time.

import { h, replace } from "./dom.js";
import { may, session } from "./session.js";
import { register, t } from "./i18n.js";

let known = [];
let place = null;
let leaving = new AbortController();
let drawn = "";

export function start(routes, element) {
  known = routes.map((route) => ({ ...route, pattern: pattern(route.path) }));
  place = element;
  window.addEventListener("hashchange", show);
  window.addEventListener("unauthorized", () => {
    if (!current().path.startsWith("/login")) navigate("/login", { next: location.hash.slice(1) }, { replace: true });
  });
  show();
}

export function current() {
  const [path, query = ""] = (location.hash.slice(1) || "/").split("?");
  return { path, query: new URLSearchParams(query) };
}

export function href(path, query = {}) {
  const kept = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const text = new URLSearchParams(kept).toString();
  return `#${path}${text ? `?${text}` : ""}`;
}

export function navigate(path, query = {}, { replace: instead = false } = {}) {
  if (instead) {
    history.replaceState(null, "", href(path, query));
    show();
  } else location.hash = href(path, query);
}

// Change the query of the address without drawing the view anew: what a view notes of its own state. When the address is
// another one already, and its view about to be drawn, there is nothing left to note.
export function note(query) {
  if (location.hash !== drawn) return;
  const now = current();
  history.replaceState(null, "", href(now.path, query));
  drawn = location.hash;
}

async function show() {
  if (location.hash && location.hash === drawn) return;
  drawn = location.hash;
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const { path, query } = current();
  const route = known.find((each) => each.pattern.test(path));
  if (route?.redirect) return navigate(route.redirect, {}, { replace: true });
  document.body.classList.toggle("bare", Boolean(route?.bare));
  window.dispatchEvent(new CustomEvent("route", { detail: { path, route } }));
  if (!route) return missing();
  if (route.role && !may(route.role)) {
    if (session.via === "anonymous" && session.ways?.length) return navigate("/login", { next: location.hash.slice(1) }, { replace: true });
    return missing("core.forbidden");
  }
  place.setAttribute("aria-busy", "true");
  try {
    const { default: view } = await route.load();
    if (signal.aborted) return;
    if (view.texts) register(view.texts);
    await Promise.all((view.styles || []).map(sheet));
    if (signal.aborted) return;
    wear(view.styles || []);
    const params = route.pattern.exec(path).groups || {};
    for (const name of Object.keys(params)) params[name] = decodeURIComponent(params[name]);
    const root = h(`div.view.${view.name}`);
    replace(place, root);
    place.scrollTop = 0;
    document.title = `${view.title ? view.title(params) : ""} · ${t("core.product")}`.replace(/^ · /, "");
    await view.mount(root, { params, query, signal });
    if (!signal.aborted && document.activeElement === document.body) place.focus({ preventScroll: true });
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") return;
    const words = error.status === 0 ? t("core.offline") : error.message;
    replace(place, h("div.view.empty", { role: "alert" }, h("h1", {}, t("core.failed")), h("p", {}, words), h("p", {}, h("a", { href: "#/studies" }, t("core.back")))));
  } finally {
    if (!signal.aborted) place.removeAttribute("aria-busy");
  }
}

function missing(key = "core.missing") {
  replace(place, h("div.view.empty", {}, h("h1", {}, t(key)), h("p", {}, h("a", { href: "#/studies" }, t("core.back")))));
}

function pattern(path) {
  return new RegExp(`^${path.replace(/:(\w+)/g, "(?<$1>[^/]+)")}/?$`);
}

const sheets = new Map(); // name → {link, loaded}
const lasting = new Set();

// A sheet that holds in all views, as a dialog or a message needs it. Resolves when it is there.
export function stylesheet(name) {
  lasting.add(name);
  const loaded = sheet(name);
  const there = sheets.get(name).link.sheet;
  if (there) there.disabled = false;
  return loaded;
}

function sheet(name) {
  if (!sheets.has(name)) {
    const link = h("link", { rel: "stylesheet", href: `ui/style/${name}.css` });
    const loaded = new Promise((resolve) => {
      link.addEventListener("load", resolve);
      link.addEventListener("error", resolve);
    });
    document.head.append(link);
    sheets.set(name, { link, loaded });
  }
  return sheets.get(name).loaded;
}

// Only the sheets of the view that is shown: two views may mean different things by one class.
function wear(names) {
  for (const [name, { link }] of sheets) if (link.sheet) link.sheet.disabled = !names.includes(name) && !lasting.has(name);
}
