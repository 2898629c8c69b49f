// The runs of verification: levels, sizes, and errors relative to eager.
function verificationOf(found) {
  if (!found || !Array.isArray(found.points)) return h("p", null, "Nothing was compared with eager.");
  const levels = [...new Set(found.points.flatMap((point) => Object.keys(point.levels)))];
  const cell = (level) => {
    if (!level) return "";
    if (level.failure) return h("span", { class: "badge bad wrap" }, `✗ ${level.failure}`);
    const outputs = Object.entries(level.outputs);
    const wrong = outputs.filter(([, output]) => output.wrong);
    const most = (key) => Math.max(0, ...outputs.map(([, output]) => Number(output[key]) || 0)).toExponential(1);
    return h(
      "span",
      {
        title: outputs
          .map(
            ([name, output]) =>
              `${name}: ${output.elements} elements, max abs ${output.max_abs}, max rel ${output.max_rel}` +
              (output.held_to ? `, held to ${output.held_to}` : ""),
          )
          .join("\n"),
      },
      h(
        "span",
        { class: wrong.length ? "badge bad" : "badge good" },
        wrong.length ? `✗ ${wrong.length} of ${outputs.length} differ` : `✓ ${count(outputs.length, "output")}`,
      ),
      ` abs ${most("max_abs")}, rel ${most("max_rel")}, ${seconds(level.seconds)}`,
      wrong.map(([name, output]) => h("p", { class: "wrap" }, `${name}: ${output.detail}`)),
    );
  };
  return [
    h(
      "p",
      null,
      `${count(found.points.length, "point")}; largest absolute error ${number(found.max_abs)}, relative ${number(found.max_rel)}.`,
    ),
    found.blame && h("p", { class: "notice" }, found.blame),
    table(
      [{ text: "point" }, { text: "sizes" }, ...levels.map((text) => ({ text })), { text: "eager", class: "num" }],
      [...found.points, ...(found.special || [])].map((point) => [
        point.kind,
        h(
          "span",
          null,
          h(
            "code",
            null,
            Object.entries(point.sizes)
              .map(([name, size]) => `${name}=${size}`)
              .join(" "),
          ),
          point.note && h("small", null, ` ${point.note}`),
        ),
        ...levels.map((level) => cell(point.levels[level])),
        seconds(point.eager_seconds),
      ]),
      { label: "Verification points" },
    ),
    consumersOf(found.consumers),
    list(
      "Sizes inside the ranges that a guard of the program refuses (not compared)",
      found.declined?.map(
        ({ sizes, guard }) =>
          `${Object.entries(sizes)
            .map(([name, size]) => `${name}=${size}`)
            .join(" ")}: ${guard}`,
      ),
    ),
    list("Results that descend from random numbers", found.random),
    list("Special values that were not compared", found.left_out && Object.entries(found.left_out).map(([word, why]) => `${word}: ${why}`)),
    list("Classes of sizes that no point has", found.not_tried),
    list(
      "Dtypes whose tolerance is weaker than the default",
      found.weakened && Object.entries(found.weakened).map(([dtype, why]) => `${dtype}: ${why || "no reason is given"}`),
    ),
    list("Sizes outside the ranges that the program refused", found.refused),
    list("Sizes outside the ranges that the program accepted", found.accepted),
  ];
}
const list = (title, items) =>
  items?.length > 0 &&
  h(
    "details",
    null,
    h("summary", null, `${title} (${items.length})`),
    h(
      "ul",
      null,
      items.map((item) => h("li", { class: "wrap" }, String(item))),
    ),
  );
// The matrix of levels and those that ran them.
function consumersOf(cells) {
  if (!cells || !cells.some((cell) => !["torch", "xla"].includes(cell.consumer) || cell.level === "torch")) return null;
  const levels = [...new Set(cells.map((cell) => cell.level))],
    consumers = [...new Set(cells.map((cell) => cell.consumer))];
  const say = (cell) =>
    cell && [
      h(
        "span",
        { class: `badge ${cell.outcome === "agrees" ? "good" : cell.outcome === "differs" ? "bad" : ""}` },
        cell.outcome === "missing" ? "not installed" : cell.points ? `${cell.outcome} at ${count(cell.points, "point")}` : cell.outcome,
      ),
      cell.message && h("p", { class: "wrap" }, cell.message),
    ];
  return table(
    [{ text: "level" }, ...consumers.map((text) => ({ text }))],
    levels.map((level) => [
      level,
      ...consumers.map((consumer) => say(cells.find((cell) => cell.level === level && cell.consumer === consumer))),
    ]),
    { label: "Consumers" },
  );
}
