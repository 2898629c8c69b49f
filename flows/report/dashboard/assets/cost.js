// The time and memory of a run, by stage and by job.
function costSection(jobs) {
  const slowest = [...jobs].sort((one, other) => other.s - one.s).slice(0, 10);
  const largest = [...jobs]
    .filter((job) => job.p)
    .sort((one, other) => other.p - one.p)
    .slice(0, 10);
  const totals = PAYLOAD.stages.map((name, index) => {
    const found = jobs.flatMap((job) => job.t.filter((stage) => stage[0] === index && stage[4] !== "hit"));
    return [name, found.reduce((sum, stage) => sum + stage[2], 0), found.length];
  });
  return section(
    "cost",
    "Time and memory",
    h(
      "div",
      { class: "columns" },
      bars(
        "By stage",
        totals.map(([name, value, many]) => [name, value, `${seconds(value)} in ${count(many, "job")}`]),
      ),
      bars(
        "Slowest",
        slowest.map((job) => [h("a", { href: jobLink(job.id), title: job.id }, job.id), job.s, seconds(job.s)]),
      ),
      bars(
        "Largest",
        largest.map((job) => [h("a", { href: jobLink(job.id), title: job.id }, job.id), job.p, bytes(job.p)]),
      ),
    ),
  );
}
function bars(title, rows) {
  const most = Math.max(...rows.map((row) => row[1]), 1e-9);
  return h(
    "div",
    { class: "bars" },
    h("h3", null, title),
    rows.length
      ? h(
          "ol",
          null,
          rows.map(([name, value, text]) =>
            h(
              "li",
              null,
              h("span", { class: "name" }, name),
              h("span", { class: "value" }, text),
              h("span", { class: "bar", "aria-hidden": "true", style: `--part:${((100 * value) / most).toFixed(1)}%` }),
            ),
          ),
        )
      : h("p", null, "no measurements"),
  );
}
