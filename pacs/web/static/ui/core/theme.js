// Light, dark, or as the system has it.

const dark = matchMedia("(prefers-color-scheme: dark)");

export function theme() {
  return localStorage.getItem("pacs.theme") || "auto";
}

export function applyTheme() {
  const chosen = theme();
  const ofSystem = dark.matches ? "dark" : "light";
  document.documentElement.dataset.theme = chosen === "auto" ? ofSystem : chosen;
}

export function chooseTheme(name) {
  localStorage.setItem("pacs.theme", name);
  applyTheme();
}

dark.addEventListener("change", applyTheme);
