// Light, dark, or as the system has it.

export function theme() {
  return localStorage.getItem("pacs.theme") || "auto";
}

export function applyTheme() {
  document.documentElement.dataset.theme = theme();
}

export function chooseTheme(name) {
  localStorage.setItem("pacs.theme", name);
  applyTheme();
}
