// The changes between two runs: the same kinds, in the same order, as `shapeline diff` prints.
function changesSection() {
  const parts = [
    ["previous", "the previous run"],
    ["baseline", "the pinned baseline"],
  ].filter(([key]) => PAYLOAD[key]);
  return section(
    "changes",
    "Changes",
    parts.map(([key, name]) => comparison(PAYLOAD[key], `Since ${name}`, PAYLOAD.kind === "run")),
  );
}
function comparison(found, title, linked) {
  const sizes = found.kinds.filter((kind) => kind.rows.length);
  return h(
    "div",
    { class: "comparison" },
    h("h3", null, title, h("small", null, ` ${found.old.run} → ${found.new.run}`)),
    h(
      "p",
      { class: `verdict ${found.regression ? "bad" : "good"}` },
      found.regression ? "✗ There are regressions" : "✓ No regression",
      h("span", null, ` ${found.summary}`),
    ),
    sizes.length === 0 && h("p", null, "The two runs do not differ."),
    sizes.map((kind) =>
      h(
        "details",
        { open: kind.bad || sizes.length < 3 },
        h("summary", null, h("b", { class: "n" }, kind.rows.length), h("span", { class: kind.bad ? "bad" : "" }, kind.title)),
        changeTable(kind, linked),
      ),
    ),
  );
}
function changeTable(kind, linked) {
  const name = (row) => (linked && PAYLOAD.jobs.some((job) => job.id === row.job) ? h("a", { href: jobLink(row.job) }, row.job) : row.job);
  const rows = kind.rows.slice(0, 500).map((row) => ({
    cells: [h("span", { class: "job" }, name(row)), row.what, row.was, row.now, h("span", { class: "wrap" }, row.note)],
  }));
  return [
    table(
      ["job", "what", "was", "is", "note"].map((text) => ({ text })),
      rows,
      { label: kind.title, class: "plain changes" },
    ),
    kind.rows.length > 500 && h("p", null, `and ${kind.rows.length - 500} more in changes.json`),
  ];
}
