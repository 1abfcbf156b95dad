// Who the caller is, and what they may do.

import { json, setCsrf } from "./api.js";

export const session = { name: "", role: "reader", via: "anonymous", csrf: "", ways: [], canDownload: true };

const ROLES = ["none", "reader", "writer", "admin"];

export async function refresh() {
  Object.assign(session, await json("session"));
  setCsrf(session.csrf || "");
  window.dispatchEvent(new CustomEvent("session"));
  return session;
}

// Log out, at an OpenID Connect provider too; then to the log-in.
export async function logout() {
  const answer = await json("session", { method: "DELETE" });
  location.hash = "#/login";
  if (answer?.logout) location.assign(answer.logout);
  else location.reload();
}

// Whether the caller is at least that: reader, writer or admin.
export function may(role) {
  return ROLES.indexOf(session.role) >= ROLES.indexOf(role || "none");
}
