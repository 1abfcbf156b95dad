// Every view: its path, the module that draws it, and where it stands in the navigation.
//
// path: ":name" takes one segment. role: the least that may see it (reader, writer, admin). nav: its place in the bar on
// top; a view without is reached from others. bare: the view has the whole window (viewer, login).

export const routes = [
  { path: "/", redirect: "/studies" },
  { path: "/upload", load: () => import("./views/upload.js"), nav: "nav.upload", role: "writer" },
  { path: "/sends", load: () => import("./views/sends.js"), role: "writer" },
  { path: "/worklist", load: () => import("./views/worklist.js"), nav: "nav.worklist", role: "writer" },
];
