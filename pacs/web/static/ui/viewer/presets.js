// Windows that are usual for a modality: [key of its name, center, width] in HU.

const CT = [
  ["soft", 40, 400],
  ["lung", -600, 1500],
  ["mediastinum", 50, 350],
  ["liver", 90, 150],
  ["brain", 40, 80],
  ["stroke", 35, 40],
  ["bone", 480, 2500],
  ["angio", 300, 600],
];

export const presetsOf = (image) =>
  image?.modality === "CT" && image.unit === "HU" ? CT.map(([name, center, width]) => ({ name, center, width, shape: "LINEAR" })) : [];
