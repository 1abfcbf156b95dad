// The log as it is written: the last lines, then each that comes.

import { address, json } from "../core/api.js";
import { h, icon, replace } from "../core/dom.js";
import { icons } from "../core/icons.js";
import { t } from "../core/i18n.js";
import { bind } from "../core/keys.js";
import { failureBox } from "../core/notice.js";
import { note } from "../core/router.js";

const LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR"];
const FIRST = 300;
const KEPT = 1500;
const TYPING_MS = 300;

export async function mountLog(root, { query, signal }) {
  let level = LEVELS.includes(query.get("level")) ? query.get("level") : "INFO";
  let text = query.get("text") || "";
  let requests = query.get("requests") === "true";
  let isPaused = false;
  let held = [];
  let source = null;
  let typing = 0;

  const problem = h("div", {});
  const state = h("span.chip", { role: "status" });
  const lines = h("div.log", { role: "log", "aria-live": "off", tabindex: "0", "aria-label": t("system.tab.log") });
  const pause = h("button", { type: "button", onclick: () => setPaused(!isPaused) });
  const search = h("input", {
    id: "log-text", type: "search", value: text, placeholder: t("system.log.text.hint"), maxlength: "200",
    oninput: (event) => {
      clearTimeout(typing);
      typing = setTimeout(() => begin(level, event.target.value.trim()), TYPING_MS);
    },
  });
  replace(root, problem,
    h("div.filters", {},
      h("div", {}, h("label", { for: "log-level" }, t("system.log.level")),
        h("select", { id: "log-level", onchange: (event) => begin(event.target.value, text) },
          LEVELS.map((each) => h("option", { value: each, selected: each === level }, t(`system.log.level.${each}`))))),
      h("div.grow", {}, h("label", { for: "log-text" }, t("system.log.text")), search),
      h("label.inline", {}, h("input", { type: "checkbox", checked: requests, onchange: (event) => { requests = event.target.checked; begin(level, text); } }), t("system.log.requests")),
      pause, state),
    lines, h("p.soft", { style: { marginTop: "8px" } }, t("system.log.note")));
  bind({ p: ["system.log.pause", () => setPaused(!isPaused)], "/": ["system.log.text", () => search.focus()] }, signal);
  signal.addEventListener("abort", () => {
    clearTimeout(typing);
    source?.close();
  });
  setPaused(false);
  begin(level, text);

  function begin(newLevel, newText) {
    level = newLevel;
    text = newText;
    if (signal.aborted) return;
    note({ tab: "log", level: level === "INFO" ? "" : level, text, requests: requests ? "true" : "" });
    source?.close();
    held = [];
    replace(lines, h("p.nothing", {}, t("system.log.none")));
    replace(problem);
    say("waiting");
    const own = new EventSource(address("log", { level, text, requests, limit: FIRST }));
    source = own;
    own.addEventListener("open", () => say("live"));
    own.addEventListener("message", (event) => {
      const come = JSON.parse(event.data);
      if (isPaused) {
        held = [...held, ...come].slice(-KEPT);
        drawPause();
      } else add(come);
    });
    own.addEventListener("error", async () => {
      say("lost");
      if (own.readyState !== EventSource.CLOSED || signal.aborted || own !== source) return;
      // A stream does not say why it was refused; the same question without one does.
      try {
        await json("log", { query: { level, text, requests, limit: 1 }, signal });
        setTimeout(() => own === source && begin(level, text), 2000);
      } catch (error) {
        if (error.name !== "AbortError") replace(problem, failureBox(error, () => begin(level, text)));
      }
    });
  }

  function add(come) {
    const follows = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 40;
    lines.querySelector(".nothing")?.remove();
    lines.append(...come.slice(-KEPT).map(line));
    while (lines.childElementCount > KEPT) lines.firstElementChild.remove();
    if (follows) lines.scrollTop = lines.scrollHeight;
  }

  function setPaused(flag) {
    isPaused = flag;
    if (!isPaused && held.length) {
      add(held);
      held = [];
    }
    drawPause();
  }

  function drawPause() {
    pause.setAttribute("aria-pressed", String(isPaused));
    replace(pause, icon(isPaused ? icons.play : icons.pause, 16), isPaused ? t("system.log.go", { n: held.length }) : t("system.log.pause"));
  }

  function say(what) {
    state.className = `chip${{ live: " good", lost: " warn" }[what] || ""}`;
    state.textContent = t(`system.log.${what}`);
  }
}

function line(entry) {
  const at = new Date(entry.time);
  const clock = Number.isNaN(+at) ? String(entry.time ?? "") : `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${String(at.getMilliseconds()).padStart(3, "0")}`;
  const logger = String(entry.logger || "").replace(/^pacs\./, "");
  return h(`div.line.${LEVELS.includes(entry.level) ? entry.level : "CRITICAL"}`, {},
    h("span.time", { title: entry.time }, clock), h("span.level", {}, entry.level),
    h("span.logger", { title: entry.logger }, entry.worker ? `${logger} [${entry.worker}]` : logger),
    h("span.message", {}, entry.exception ? `${entry.message}\n${entry.exception}` : entry.message));
}

const two = (value) => String(value).padStart(2, "0");
