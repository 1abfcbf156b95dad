// What pointers do in a pane: the left button (or one finger) does what the chosen tool says, the right button the window,
// the middle one pans, the wheel scrolls, Ctrl and wheel zoom, two fingers zoom and pan.

export const TOOLS = ["window", "scroll", "pan", "zoom", "measure", "probe"];

const SCROLL_STEP_PX = 12; // of a drag, a frame
const NOTCH_PX = 50; // a wheel with notches sends at least that at once
const GLIDE_PX = 60; // of a touchpad, a frame
const HANDLE_PX = 14;

// tool: function that names the chosen tool. onActive: the pane was touched. onScroll: (step) => frames to go.
export function bindTools(port, { tool, onActive, onScroll }) {
  const { stage } = port;
  const down = new Map(); // pointer id → {x, y}
  let running = null; // {move(point, dx, dy), end()}
  let pinch = null;
  const place = (event) => {
    const box = stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  stage.addEventListener("pointerdown", (event) => {
    onActive();
    stage.setPointerCapture(event.pointerId);
    down.set(event.pointerId, place(event));
    if (down.size === 2) {
      running?.cancel?.();
      running = null;
      pinch = spread([...down.values()]);
    } else if (down.size === 1) running = started(port, chosen(event, tool()), place(event), onScroll);
    port.overlay.pointer = place(event);
    port.invalidate();
    if (event.button === 1) event.preventDefault(); // no automatic scrolling
  });

  stage.addEventListener("pointermove", (event) => {
    const at = place(event);
    port.overlay.pointer = at;
    const before = down.get(event.pointerId);
    if (!before) return port.invalidate();
    down.set(event.pointerId, at);
    if (pinch && down.size === 2) {
      const now = spread([...down.values()]);
      port.zoom(now.distance / pinch.distance || 1, now.middle);
      port.set({ scale: port.currentScale, pan: [port.pan[0] + now.middle[0] - pinch.middle[0], port.pan[1] + now.middle[1] - pinch.middle[1]] });
      pinch = now;
    } else running?.move(at, at[0] - before[0], at[1] - before[1]);
    port.invalidate();
  });

  const up = (event) => {
    if (!down.delete(event.pointerId)) return;
    if (down.size < 2) pinch = null;
    if (down.size === 0) {
      running?.end?.();
      running = null;
      if (event.pointerType === "touch") port.overlay.pointer = null;
    }
    port.invalidate();
  };
  stage.addEventListener("pointerup", up);
  stage.addEventListener("pointercancel", up);
  stage.addEventListener("pointerleave", () => {
    port.overlay.pointer = null;
    port.invalidate();
  });
  stage.addEventListener("contextmenu", (event) => event.preventDefault());
  stage.addEventListener("dblclick", () => tool() !== "measure" && port.fit());
  bindWheel(port, stage, place, onActive, onScroll);
}

function bindWheel(port, stage, place, onActive, onScroll) {
  let glided = 0;
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    onActive();
    const delta = event.deltaY * [1, 34, 400][event.deltaMode];
    if (event.ctrlKey || event.metaKey) return port.zoom(Math.exp(-delta / (Math.abs(delta) >= NOTCH_PX ? 500 : 100)), place(event));
    if (Math.abs(delta) >= NOTCH_PX) {
      glided = 0;
      return onScroll(Math.sign(delta) * Math.max(1, Math.round(Math.abs(delta) / 120)));
    }
    glided = Math.sign(glided) === -Math.sign(delta) ? delta : glided + delta;
    const steps = Math.trunc(glided / GLIDE_PX);
    glided -= steps * GLIDE_PX;
    if (steps) onScroll(steps);
  }, { passive: false });
}

function chosen(event, tool) {
  if (event.button === 2) return "window";
  return event.button === 1 || event.shiftKey ? "pan" : tool;
}

function started(port, tool, at, onScroll) {
  if (tool === "window") return { move: (_, dx, dy) => port.dragWindow(dx, dy) };
  if (tool === "pan") return { move: (_, dx, dy) => port.set({ scale: port.currentScale, pan: [port.pan[0] + dx, port.pan[1] + dy] }) };
  if (tool === "zoom") return { move: (_, __, dy) => port.zoom(Math.exp(-dy / 150), at) };
  if (tool === "measure") return measuring(port, at);
  if (tool === "scroll") {
    let dragged = 0;
    return { move: (_, __, dy) => {
      dragged += dy;
      const steps = Math.trunc(dragged / SCROLL_STEP_PX);
      dragged -= steps * SCROLL_STEP_PX;
      if (steps) onScroll(steps);
    } };
  }
  return { move: () => {} }; // the probe is read wherever the pointer is
}

// Draw a new length, or move the end of one that is there.
function measuring(port, at) {
  if (!port.shown) return { move: () => {} };
  for (const measure of port.measuresHere()) {
    for (const end of ["from", "to"]) {
      const [x, y] = port.toScreen(measure[end]);
      if (Math.hypot(x - at[0], y - at[1]) < HANDLE_PX) return { move: (to) => { measure[end] = port.toImage(to); port.invalidate(); } };
    }
  }
  const from = port.toImage(at);
  return {
    move: (to) => { port.drawing = { from, to: port.toImage(to) }; },
    end: () => {
      const made = port.drawing;
      port.drawing = null;
      if (!made) return;
      const [one, other] = [port.toScreen(made.from), port.toScreen(made.to)];
      if (port.shown && Math.hypot(one[0] - other[0], one[1] - other[1]) >= 3) port.addMeasure(made);
    },
    cancel: () => { port.drawing = null; },
  };
}

function spread([one, other]) {
  return { distance: Math.hypot(one[0] - other[0], one[1] - other[1]), middle: [(one[0] + other[0]) / 2, (one[1] + other[1]) / 2] };
}
