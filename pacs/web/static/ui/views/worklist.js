export default { name: "worklist", title: () => "", async mount() {} };
