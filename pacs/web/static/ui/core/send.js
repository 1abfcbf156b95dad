// Sending to a peer: whom to, how far it is, what failed. Goes on when the dialog is closed, and when the page is.

import { json, request } from "./api.js";
import { openDialog } from "./dialog.js";
import { h, replace } from "./dom.js";
import { moment } from "./format.js";
import { language, register, t } from "./i18n.js";
import { href, stylesheet } from "./router.js";
import { toast } from "./toast.js";
import texts from "../texts/send.js";

register(texts);

const FOLLOW_MS = 700, AWAY_MS = 3000;
const MANY_PEERS = 8, SHOWN_FAILURES = 50;
const LAST = "pacs.send.peer";
export const KINDS = { sending: "", waiting: ".warn", done: ".good", failed: ".bad", cancelled: ".warn", "given-up": ".bad" };

// targets: [{study, series, sop}]. Resolves when the dialog is closed, with the id of the send, null when none was begun.
export async function sendDialog(targets) {
  await stylesheet("send");
  const body = h("div.send-dialog");
  const state = { id: null, last: null };
  const closing = new AbortController();
  const opened = openDialog({ title: t("send.title"), body });
  choose(body, targets, (id) => {
    state.id = id;
    watch(body, state, closing.signal);
  }, closing.signal);
  await opened;
  closing.abort();
  if (state.id && !state.last?.ended) linger(state.id, state.last);
  return state.id;
}

// A send that has begun.
export async function showSend(id) {
  await stylesheet("send");
  const body = h("div.send-dialog");
  const state = { id, last: null };
  const closing = new AbortController();
  const opened = openDialog({ title: t("send.title"), body });
  watch(body, state, closing.signal);
  await opened;
  closing.abort();
}

async function choose(body, targets, begun, signal) {
  const failure = h("p.failure", { role: "alert", hidden: true });
  const legend = t("send.to", { what: what(targets) });
  const go = h("button.primary", { type: "button", disabled: true }, t("send.go"));
  const peer = { name: "" };
  const chosen = (name) => {
    peer.name = name.trim();
    go.disabled = !peer.name;
  };
  const field = h("div", { "aria-busy": "true" });
  replace(body, field, failure, h("div.actions", {}, go));
  go.addEventListener("click", async () => {
    go.disabled = true;
    failure.hidden = true;
    try {
      const { id } = await json(`peers/${encodeURIComponent(peer.name)}/send`, { method: "POST", json: { targets } });
      localStorage.setItem(LAST, peer.name);
      begun(id);
    } catch (error) {
      failure.textContent = error.status === 0 ? t("core.offline") : error.message || t("core.failed");
      failure.hidden = false;
      go.disabled = false;
    }
  });
  let peers = null;
  try {
    peers = (await json("peers", { signal })).filter((each) => each.host && !each.is_broken);
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error.status !== 403 && error.status !== 401) {
      failure.textContent = error.status === 0 ? t("core.offline") : error.message;
      failure.hidden = false;
    }
  }
  field.removeAttribute("aria-busy");
  if (peers === null) {
    const input = h("input", { type: "text", maxlength: "16", autocomplete: "off", value: localStorage.getItem(LAST) || "", oninput: () => chosen(input.value) });
    replace(field, h("p", {}, legend), h("label", {}, t("send.peer"), input), h("p.soft", {}, t("send.unknown")));
    chosen(input.value);
    input.focus();
  } else if (!peers.length) replace(field, h("p", {}, t("send.none")));
  else list(field, peers, legend, chosen, signal);
}

function list(field, peers, legend, chosen, signal) {
  const last = localStorage.getItem(LAST);
  const rows = peers.map((each) => {
    const echo = h("span.chip", { role: "status" }, t("send.echo.asking"));
    const input = h("input", { type: "radio", name: "peer", value: each.ae_title, checked: each.ae_title === last || peers.length === 1, onchange: () => chosen(each.ae_title) });
    if (input.checked) chosen(each.ae_title);
    const about = h("small", {}, `${each.host}:${each.port}${each.tls ? ` · ${t("send.tls")}` : ""}`);
    ask(each.ae_title, echo, about, signal);
    return h("label.peer", {}, input, h("strong", {}, each.ae_title), echo, about);
  });
  const find = h("input", { type: "search", "aria-label": t("send.find"), placeholder: t("send.find"), oninput: () => {
    rows.forEach((row, at) => (row.hidden = !peers[at].ae_title.toLowerCase().includes(find.value.toLowerCase())));
  } });
  replace(field, peers.length > MANY_PEERS && find, h("fieldset", {}, h("legend", {}, legend), rows));
  (field.querySelector("input:checked") || field.querySelector("input")).focus();
}

async function ask(name, place, about, signal) {
  try {
    const { is_there: isThere, ms, reason } = await json(`peers/${encodeURIComponent(name)}/echo`, { method: "POST", signal });
    place.className = `chip ${isThere ? "good" : "bad"}`;
    place.textContent = isThere ? t("send.echo.there", { ms }) : t("send.echo.away");
    if (reason) about.append(h("br"), reason);
  } catch {
    place.hidden = true; // not allowed, or not now: sending will tell
  }
}

// Ask how far it is until it has ended.
async function follow(id, told, signal) {
  for (;;) {
    let pause = FOLLOW_MS;
    try {
      const found = await json(`sends/${id}`, { signal });
      told(found);
      if (found.ended || found.state === "given-up") return;
    } catch (error) {
      if (error.name === "AbortError" || error.status === 404) return;
      pause = AWAY_MS;
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
    if (signal?.aborted) return;
  }
}

function watch(body, state, signal) {
  const failure = h("p.failure", { role: "alert", hidden: true });
  const change = (method, path) => async (event) => {
    event.currentTarget.disabled = true;
    try {
      await request(`sends/${state.id}${path}`, { method });
      drawn = "";
      if (state.last?.ended || state.last?.state === "given-up") begin();
      else draw(await json(`sends/${state.id}`, { signal }));
    } catch (error) {
      if (error.name === "AbortError") return;
      failure.textContent = error.status === 0 ? t("core.offline") : error.message;
      failure.hidden = false;
    }
  };
  const bar = h("progress", { "aria-label": t("send.progress") });
  const head = h("span"), count = h("span"), chip = h("span", { role: "status" }), more = h("div"), actions = h("div.actions");
  replace(body, h("div.line", {}, head, chip), bar, h("div.line", {}, count), more, failure, actions);
  let drawn = "";
  const draw = (found) => {
    state.last = found;
    head.textContent = t("send.to.peer", { peer: found.peer });
    bar.max = found.total;
    bar.value = found.sent + found.failures;
    count.textContent = t("send.of", found);
    const key = [found.state, found.failures, found.error, found.next_attempt].join();
    if (key === drawn) return;
    drawn = key;
    chip.className = `chip ${KINDS[found.state].slice(1)}`;
    chip.textContent = t(`send.state.${found.state}`);
    replace(more, reasons(found));
    const isOver = Boolean(found.ended);
    replace(actions, h("a", { href: href("/sends"), onclick: (event) => event.currentTarget.closest("dialog").close() }, t("send.all")),
      !isOver && h("button", { type: "button", onclick: change("DELETE", "") }, t("send.cancel")),
      found.state === "waiting" && h("button", { type: "button", onclick: change("POST", "/retry") }, t("send.now")),
      ["failed", "given-up"].includes(found.state) && h("button", { type: "button", onclick: change("POST", "/retry") }, t("send.retry")),
      h("button.primary", { type: "button", onclick: (event) => event.currentTarget.closest("dialog").close() }, t("send.close")));
    if (!body.contains(document.activeElement)) actions.lastChild.focus();
  };
  const begin = () => follow(state.id, draw, signal);
  begin();
}

function reasons(found) {
  const parts = [];
  if (found.error) parts.push(h("p.failure", {}, found.error));
  if (found.next_attempt) parts.push(h("p.soft", {}, t("send.next", { when: soon(found.next_attempt) })));
  if (found.state === "sending") parts.push(h("p.soft", {}, t("send.hidden")));
  if (found.state === "cancelled" && found.left) parts.push(h("p", {}, t("send.left", { n: found.left })));
  if (found.failed?.length) {
    const rest = found.failed.length - SHOWN_FAILURES;
    parts.push(h("p.failure", {}, t("send.failures", { n: found.failed.length })),
      h("ul.refused", { tabindex: "0", "aria-label": t("send.failures", { n: found.failed.length }) },
        found.failed.slice(0, SHOWN_FAILURES).map((one) => h("li", {}, one.reason, h("code", {}, one.sop))),
        rest > 0 && h("li", {}, t("send.failures.more", { n: rest }))));
  }
  return parts;
}

// A toast that stays until it is over, after the dialog was closed.
function linger(id, last) {
  const words = h("span"), bar = h("progress", { "aria-hidden": "true" });
  const element = h("span.send-toast", { "aria-live": "off" }, words, bar);
  const closing = new AbortController();
  const close = toast(element, { action: { text: t("send.show"), run: () => { closing.abort(); showSend(id); } } });
  const draw = (found) => {
    words.textContent = summary(found);
    bar.max = found.total;
    bar.value = found.sent + found.failures;
    bar.hidden = found.state !== "sending";
    const isBad = ["failed", "given-up"].includes(found.state);
    element.parentElement?.classList.toggle("error", isBad);
    element.parentElement?.classList.toggle("success", found.state === "done");
    if (!found.ended) return;
    element.setAttribute("aria-live", "polite");
    words.textContent = summary(found);
    if (!isBad) setTimeout(close, 6000);
  };
  if (last) draw(last);
  else words.textContent = t("send.state.sending");
  follow(id, (found) => (element.isConnected ? draw(found) : closing.abort()), closing.signal);
}

export const summary = (found) => t(`send.toast.${found.state}`, found);

function soon(iso) {
  const seconds = Math.round((new Date(iso) - Date.now()) / 1000);
  if (Math.abs(seconds) >= 3600) return moment(iso);
  const form = new Intl.RelativeTimeFormat(language(), { numeric: "auto" });
  return Math.abs(seconds) < 90 ? form.format(Math.max(0, seconds), "second") : form.format(Math.round(seconds / 60), "minute");
}

function what(targets) {
  const counts = { studies: 0, series: 0, instances: 0 };
  for (const { series, sop } of targets) counts[sop ? "instances" : series ? "series" : "studies"] += 1;
  return Object.entries(counts).filter(([, n]) => n).map(([level, n]) => t(`send.what.${level}`, { n })).join(", ");
}
