// Every view: its path, the module that draws it, and where it stands in the navigation.
//
// path: ":name" takes one segment. role: the least that may see it (reader, writer, admin). nav: its place in the bar on
// top; a view without is reached from others. bare: the view has the whole window (viewer, login).

export const routes = [
  { path: "/", redirect: "/studies" },
  { path: "/studies", role: "reader", nav: "nav.studies", load: () => import("./views/studies.js") },
  { path: "/studies/:study", role: "reader", load: () => import("./views/study.js") },
  { path: "/studies/:study/series/:series", role: "reader", load: () => import("./views/series.js") },
  { path: "/studies/:study/series/:series/instances/:instance", role: "reader", load: () => import("./views/instance.js") },
  { path: "/patients/:patient", role: "reader", load: () => import("./views/patient.js") },
  { path: "/view/:study", role: "reader", bare: true, load: () => import("./views/view.js") },
  { path: "/upload", role: "writer", nav: "nav.upload", load: () => import("./views/upload.js") },
  { path: "/worklist", role: "writer", nav: "nav.worklist", load: () => import("./views/worklist.js") },
  { path: "/sends", role: "writer", load: () => import("./views/sends.js") },
  { path: "/trash", role: "writer", load: () => import("./views/trash.js") },
  { path: "/peers", role: "writer", nav: "nav.peers", load: () => import("./views/peers.js") },
  { path: "/jobs", role: "admin", nav: "nav.jobs", load: () => import("./views/jobs.js") },
  { path: "/system", role: "admin", nav: "nav.system", load: () => import("./views/system.js") },
  { path: "/accounts", role: "admin", nav: "nav.accounts", load: () => import("./views/accounts.js") },
  { path: "/login", bare: true, load: () => import("./views/login.js") },
  { path: "/share/:token", bare: true, load: () => import("./views/share.js") },
  { path: "/me", role: "reader", load: () => import("./views/me.js") },
  { path: "/help", role: "reader", nav: "nav.help", load: () => import("./views/help.js") },
];
