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
];
