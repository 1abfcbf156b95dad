// What comes into the archive while a list is looked at. The stream is held only while the page is in sight: a browser
// has few connections to one server, and each tab would keep one.

import { address, json } from "../core/api.js";
import { session } from "../core/session.js";

const AGAIN_MS = 10_000;

// onStored(study): something of that study was stored after the list was drawn.
export function watchArrivals(onStored, signal) {
  if (session.via === "share") return; // a guest has one study, and no feed
  let stream = null;
  let last = "now";
  let timer = 0;
  const close = () => {
    clearTimeout(timer);
    stream?.close();
    stream = null;
  };
  const open = async () => {
    close();
    if (signal.aborted || document.hidden) return;
    try {
      if (last === "now") last = String((await json("changes", { query: { since: "now", limit: 1 }, signal })).last);
    } catch {
      timer = setTimeout(open, AGAIN_MS);
      return;
    }
    if (signal.aborted || document.hidden || stream) return;
    const opened = (stream = new EventSource(address("changes", { since: last })));
    const heard = (event) => {
      last = event.lastEventId || last;
      onStored(JSON.parse(event.data).study);
    };
    opened.addEventListener("stored", heard);
    opened.addEventListener("replaced", heard);
    opened.addEventListener("deleted", (event) => (last = event.lastEventId || last));
    opened.addEventListener("error", () => {
      if (opened.readyState !== EventSource.CLOSED) return; // it comes again by itself
      last = "now"; // what followed that cursor is not kept any more
      close();
      timer = setTimeout(open, AGAIN_MS);
    });
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()), { signal });
  signal.addEventListener("abort", close);
  open();
}
