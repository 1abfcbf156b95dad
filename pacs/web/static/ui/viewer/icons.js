// Icons of the viewer's tools; paths of 24 × 24, stroked.

export const viewerIcons = {
  window: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 3v18M15 5v14M18 7.5v9",
  scroll: "M5 4h14v4H5zM5 10h14v4H5zM5 16h14v4H5z",
  pan: "M12 3v18M3 12h18M9 6l3-3 3 3M9 18l3 3 3-3M6 9l-3 3 3 3M18 9l3 3-3 3",
  zoom: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM20 20l-4-4M8 11h6M11 8v6",
  measure: "M3 16L16 3l5 5L8 21zM7 12l2 2M10 9l2 2M13 6l2 2",
  probe: "M12 2v7M12 15v7M2 12h7M15 12h7M12 11.5v1",
  invert: "M4 4h16v16H4zM4 20L20 4M8 9h4M15 14v4M13 16h4",
  rotate: "M19 12a7 7 0 1 1-2-5M19 3v5h-5",
  flipSideways: "M12 3v18M9 7l-6 10h6zM15 7l6 10h-6z",
  flipOver: "M3 12h18M7 9l10-6v6zM7 15l10 6v-6z",
  fit: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5",
  oneToOne: "M6 8l2-2v12M16 8l2-2v12M12 10v.01M12 14v.01",
  reset: "M5 12a7 7 0 1 0 2-5M5 3v5h5",
  full: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5M9 9h6v6H9z",
  linked: "M9 15l6-6M10 7l2-2a4 4 0 0 1 6 6l-2 2M14 17l-2 2a4 4 0 0 1-6-6l2-2",
  labels: "M4 5h7M4 9h5M15 19h5M13 15h7",
  clear: "M4 15l9-9 6 6-8 8H8zM11 20h9",
};
