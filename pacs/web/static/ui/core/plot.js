// Plots over time as SVG: bars up and down, or an area. Each has a title, a description, a table that says the same,
// and a line of words below for the hour or day that the pointer or the arrow keys are at.

import { h, replace } from "./dom.js";
import { register, t } from "./i18n.js";

register({
  en: { "plot.table": "As a table", "plot.when": "Time" },
  "zh-Hant": { "plot.table": "以表格顯示", "plot.when": "時間" },
});

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 180;
const EDGE = { top: 10, right: 8, bottom: 24, left: 64 };
const GRID_LINES = 4;
let plots = 0;

// points: [{at: Date}] oldest first. series: [{name, kind: "bars" | "area", down, value: (point) => number | null}].
// format: of a value; when: of a point's time, long; tick: short, "" where there is none; rows: newest first in the table.
export function plot({ title, description, points, series, format, when, tick, signal }) {
  plots += 1;
  const id = `plot-${plots}`;
  const svg = draw("svg", { class: "plot", role: "img", tabindex: "0", "aria-labelledby": `${id}-title ${id}-text`, height: HEIGHT });
  const readout = h("p.readout", { "aria-live": "polite" });
  let marked = points.length - 1;
  const say = () => {
    const point = points[marked];
    const words = series.map((each) => `${each.name}: ${each.value(point) === null ? "–" : format(each.value(point))}`);
    replace(readout, h("strong", {}, when(point)), " · ", words.join(" · "));
  };
  let place = () => {};
  const paint = () => {
    const width = Math.max(280, svg.parentElement?.clientWidth || 600);
    place = paintInto(svg, { id, title, description, points, series, format, tick, width });
    place(marked);
  };
  const mark = (at) => {
    marked = Math.min(points.length - 1, Math.max(0, at));
    place(marked);
    say();
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const share = (event.clientX - box.left - EDGE.left) / (box.width - EDGE.left - EDGE.right);
    mark(Math.floor(share * points.length));
  });
  svg.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -12, PageDown: 12, Home: -points.length, End: points.length }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    mark(marked + by);
  });
  const figure = h("figure.plot", {},
    h("figcaption", {}, h("h3", {}, title), legend(series)),
    h("div.canvas", {}, svg), readout, table({ title, points, series, format, when }));
  const watcher = new ResizeObserver(paint);
  watcher.observe(figure);
  signal?.addEventListener("abort", () => watcher.disconnect());
  say();
  return figure;
}

function legend(series) {
  if (series.length < 2) return null;
  return h("ul.legend", {}, series.map((each, at) => h("li", {}, h(`span.swatch.series-${at}`, { "aria-hidden": "true" }), each.name)));
}

// Made when it is opened: a year has many rows.
function table({ title, points, series, format, when }) {
  const body = h("div.scroll", { tabindex: "0", role: "region", "aria-label": title });
  const details = h("details.as-table", {}, h("summary", {}, t("plot.table")), body);
  details.addEventListener("toggle", () => {
    if (!details.open || body.childElementCount) return;
    replace(body, h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, t("plot.when")), series.map((each) => h("th.number", { scope: "col" }, each.name)))),
      h("tbody", {}, [...points].reverse().map((point) => h("tr", {},
        h("th", { scope: "row" }, when(point)),
        series.map((each) => h("td.number", {}, each.value(point) === null ? "–" : format(each.value(point)))))))));
  });
  return details;
}

// Returns what moves the marker to a point.
function paintInto(svg, { id, title, description, points, series, format, tick, width }) {
  svg.setAttribute("width", width);
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  const inner = { width: width - EDGE.left - EDGE.right, height: HEIGHT - EDGE.top - EDGE.bottom };
  const highest = Math.max(0, ...points.flatMap((point) => series.filter((each) => !each.down).map((each) => each.value(point) || 0)));
  const lowest = Math.max(0, ...points.flatMap((point) => series.filter((each) => each.down).map((each) => each.value(point) || 0)));
  const step = niceStep((highest + lowest) / GRID_LINES);
  const top = Math.max(step, Math.ceil(highest / step) * step);
  const bottom = Math.ceil(lowest / step) * step;
  const y = (value) => EDGE.top + (inner.height * (top - value)) / (top + bottom);
  const x = (at) => EDGE.left + (inner.width * at) / points.length;
  const parts = [draw("title", { id: `${id}-title` }, title), draw("desc", { id: `${id}-text` }, description)];
  for (let value = -bottom; value <= top + step / 2; value += step) {
    const at = Math.abs(value) < step / 2 ? 0 : value;
    parts.push(draw("line", { class: at === 0 ? "axis" : "grid", x1: EDGE.left, x2: width - EDGE.right, y1: y(at), y2: y(at) }));
    parts.push(draw("text", { class: "label", x: EDGE.left - 8, y: y(at) + 4, "text-anchor": "end" }, format(Math.abs(at))));
  }
  let free = 0;
  points.forEach((point, at) => {
    const words = tick(point, at);
    const middle = x(at + 0.5);
    if (!words || middle < free) return;
    const long = words.length * 7 + 16;
    if (middle + long / 2 > width) return;
    parts.push(draw("text", { class: "label", x: middle, y: HEIGHT - 7, "text-anchor": "middle" }, words));
    free = middle + long;
  });
  series.forEach((each, index) => {
    if (each.kind === "area") parts.push(...area(points, each, index, x, y));
    else parts.push(bars(points, each, index, x, y));
  });
  const marker = draw("rect", { class: "marker", y: EDGE.top, width: Math.max(1.5, inner.width / points.length), height: inner.height });
  parts.push(marker);
  svg.replaceChildren(...parts);
  return (at) => marker.setAttribute("x", x(at));
}

function bars(points, each, index, x, y) {
  const gap = x(1) - x(0) > 5 ? 1.5 : 0;
  const path = points.map((point, at) => {
    const value = each.value(point);
    if (!value) return "";
    // A single instance among thousands is still seen.
    const end = each.down ? Math.max(y(-value), y(0) + 1.5) : Math.min(y(value), y(0) - 1.5);
    return `M${x(at) + gap / 2} ${y(0)}V${end}H${x(at + 1) - gap / 2}V${y(0)}Z`;
  });
  return draw("path", { class: `series-${index}`, d: path.join("") });
}

function area(points, each, index, x, y) {
  const known = points.map((point, at) => [at, each.value(point)]).filter(([, value]) => value !== null);
  if (!known.length) return [];
  const line = known.map(([at, value], number) => `${number ? "L" : "M"}${x(at)} ${y(value)}L${x(at + 1)} ${y(value)}`).join("");
  const first = x(known[0][0]);
  const last = x(known[known.length - 1][0] + 1);
  return [
    draw("path", { class: `series-${index} fill`, d: `${line}L${last} ${y(0)}L${first} ${y(0)}Z` }),
    draw("path", { class: `series-${index} line`, d: line }),
  ];
}

// 1, 2 or 5 times a power of ten, at least 1.
function niceStep(rough) {
  if (rough <= 1) return 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 5, 10].find((each) => each * power >= rough);
}

function draw(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}
