// Keys of the viewer; "?" shows them.

import { bind } from "../core/keys.js";

const PAGE = 10;

export function bindKeys(desk, signal) {
  const port = () => desk.active;
  const last = () => (port().stack?.images.length ?? 1) - 1;
  // A button that has the focus keeps its own keys.
  const unlessOnButton = (run) => (event) => (event.target.closest?.("button, a, summary") ? false : run());
  const tool = (name) => [`view.tool.${name}`, () => desk.toolbar.choose(name)];
  bind({
    ArrowDown: ["view.key.next", () => desk.scroll(1)],
    ArrowUp: ["view.key.previous", () => desk.scroll(-1)],
    ArrowRight: ["view.key.next", () => desk.scroll(1)],
    ArrowLeft: ["view.key.previous", () => desk.scroll(-1)],
    PageDown: ["view.key.forward", () => desk.scroll(PAGE)],
    PageUp: ["view.key.backward", () => desk.scroll(-PAGE)],
    Home: ["view.key.first", () => desk.goTo(0)],
    End: ["view.key.last", () => desk.goTo(last())],
    "]": ["view.key.nextSeries", () => desk.nextSeries(1)],
    "[": ["view.key.previousSeries", () => desk.nextSeries(-1)],
    " ": ["view.key.play", unlessOnButton(() => port().cine.toggle())],
    w: tool("window"), s: tool("scroll"), p: tool("pan"), z: tool("zoom"), m: tool("measure"), q: tool("probe"),
    i: ["view.invert", () => port().set({ isInverted: !port().isInverted })],
    r: ["view.rotate", () => port().rotate()],
    h: ["view.flipSideways", () => port().flip(false)],
    v: ["view.flipOver", () => port().flip(true)],
    "+": ["view.key.zoomIn", () => port().zoom(1.25)],
    "-": ["view.key.zoomOut", () => port().zoom(0.8)],
    f: ["view.fit", () => port().fit()],
    o: ["view.oneToOne", () => port().oneToOne()],
    x: ["view.reset", () => port().reset()],
    Delete: ["view.clear", () => port().clearMeasures()],
    t: ["view.labels", () => desk.toolbar.toggleLabels()],
    n: ["view.key.nextPane", () => desk.activate(desk.ports[(desk.ports.indexOf(port()) + 1) % desk.ports.length])],
    g: ["view.full", () => desk.toolbar.toggleFull()],
    ...Object.fromEntries([1, 2, 3, 4, 5, 6, 7, 8, 9].map((digit) => [String(digit), ["view.key.preset", () => desk.toolbar.preset(digit)]])),
  }, signal);
}
