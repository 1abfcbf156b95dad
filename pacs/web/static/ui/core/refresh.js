// Looks again from time to time, while the view is there and the tab is seen.

// Calls look(), and again so many seconds after it has ended. Returns {now(), pause(flag)}.
export function refreshing(look, seconds, signal) {
  let timer = 0;
  let running = null;
  let isPaused = false;
  const plan = () => {
    clearTimeout(timer);
    if (!signal.aborted && !isPaused && !document.hidden) timer = setTimeout(now, seconds * 1000);
  };
  const now = () => {
    clearTimeout(timer);
    running ??= Promise.resolve(look()).finally(() => {
      running = null;
      plan();
    });
    return running;
  };
  document.addEventListener("visibilitychange", () => (document.hidden || isPaused ? clearTimeout(timer) : now()), { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));
  return {
    now,
    pause(flag) {
      isPaused = flag;
      plan();
    },
  };
}
