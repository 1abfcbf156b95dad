// Who the caller is, and what they may do.

import { json, setCsrf } from "./api.js";

export const session = { name: "", role: "reader", via: "anonymous", csrf: "", ways: [] };

const ROLES = ["none", "reader", "writer", "admin"];

export async function refresh() {
  Object.assign(session, await json("session"));
  setCsrf(session.csrf || "");
  window.dispatchEvent(new CustomEvent("session"));
  return session;
}

// Whether the caller is at least that: reader, writer or admin.
export function may(role) {
  return ROLES.indexOf(session.role) >= ROLES.indexOf(role || "none");
}
