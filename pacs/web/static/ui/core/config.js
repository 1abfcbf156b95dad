// What the page has to know of its server (ui/config.json): api, version, aeTitle, dimsePort, canDelete, viewer.

export const config = {};

export async function load() {
  const response = await fetch("ui/config.json", { cache: "no-store" });
  if (!response.ok) throw new Error(`ui/config.json: ${response.status}`);
  Object.assign(config, await response.json());
}
