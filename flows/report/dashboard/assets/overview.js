// The first screen of a run: verdict, outcomes, changes, and costs.
function overview() {
  const jobs = PAYLOAD.jobs;
  const wrong = jobs.filter((job) => kindOf(job) === "bad");
  const apart = jobs.filter((job) => kindOf(job) === "apart");
  const content = [headline(jobs, wrong, apart)];
  if (PAYLOAD.previous || PAYLOAD.baseline) content.push(changesSection());
  if (wrong.length || apart.length) content.push(clustersSection(jobs));
  if (PAYLOAD.blockers?.some((blocker) => blocker.unlocks[0] > 1) || PAYLOAD.blockers?.length > 1)
    content.push(blockersSection(PAYLOAD.blockers));
  content.push(matrixSection(jobs), costSection(jobs));
  const plots = plotsSection(jobs);
  if (plots) content.push(plots);
  if (PAYLOAD.trend?.length > 1) content.push(trendSection(PAYLOAD.trend));
  content.push(environmentSection());
  return content;
}
function headline(jobs, wrong, apart) {
  const totals = PAYLOAD.outcomes
    .map((outcome) => [outcome, jobs.filter((job) => job.o === outcome).length])
    .filter(([, number]) => number);
  const stages = jobs.flatMap((job) => job.t);
  const hits = stages.filter((stage) => stage[4] === "hit").length;
  const cached = stages.filter((stage) => stage[4] !== "off").length;
  const dims = jobs.filter((job) => job.d).reduce(([kept, all], job) => [kept + job.d[0], all + job.d[1]], [0, 0]);
  const verdict = wrong.length
    ? `${count(wrong.length, "job")} not as expected`
    : apart.length
      ? "No model failed unexpectedly"
      : "Everything as expected";
  const tile = (label, value, note) =>
    h("div", { class: "tile" }, h("dt", null, label), h("dd", null, value, note && h("small", null, note)));
  return h(
    "section",
    { class: `headline ${wrong.length ? "bad" : apart.length ? "apart" : "good"}`, "aria-label": "Headline" },
    h("h1", null, verdict),
    h("p", { class: "sub" }, `${PAYLOAD.suite} · ${when(PAYLOAD.started)} · ${PAYLOAD.run}`),
    h(
      "div",
      { class: "outcomes", role: "group", "aria-label": "Jobs by outcome: choose one to see its jobs" },
      totals.map(([outcome, number]) =>
        h(
          "button",
          { type: "button", class: "outcome", onclick: () => showJobs({ outcome, q: "", group: "" }) },
          badge(outcome),
          h("b", null, number.toLocaleString("en")),
        ),
      ),
    ),
    apart.length > 0 &&
      h("p", null, `${count(apart.length, "job")} ended by the infrastructure (infra, not run), without a verdict on the model.`),
    h(
      "dl",
      { class: "tiles" },
      tile("jobs", jobs.length.toLocaleString("en"), PAYLOAD.workers ? `${PAYLOAD.workers} at a time` : ""),
      PAYLOAD.seconds !== null && PAYLOAD.seconds !== undefined && tile("wall time", seconds(PAYLOAD.seconds)),
      tile("time of all stages", seconds(jobs.reduce((sum, job) => sum + job.s, 0))),
      cached > 0 && tile("cache hits", `${hits.toLocaleString("en")} of ${cached.toLocaleString("en")}`),
      dims[1] > 0 && tile("dims kept dynamic", `${dims[0].toLocaleString("en")} of ${dims[1].toLocaleString("en")}`),
      tile("warnings", jobs.reduce((sum, job) => sum + job.w, 0).toLocaleString("en")),
    ),
    PAYLOAD.again && h("p", { class: "again" }, "Rerun the failures: ", command(PAYLOAD.again, "the command that reruns the failures")),
  );
}
function environmentSection() {
  const found = PAYLOAD.environment;
  if (!found) return null;
  const rows = [
    [
      "packages",
      Object.entries(found.packages || {})
        .map(([name, version]) => `${name} ${version || "missing"}`)
        .join(", "),
    ],
    ["Python", found.python],
    [
      "machine",
      [
        found.machine?.host,
        found.machine?.cpu,
        found.machine?.cores && count(found.machine.cores, "core"),
        bytes(found.machine?.memory_bytes),
        found.machine?.gpus?.length ? `GPUs: ${found.machine.gpus.join(", ")}` : "no GPU",
      ]
        .filter(Boolean)
        .join(", "),
    ],
    ["commit", found.git ? `${found.git.commit.slice(0, 12)}${found.git.modified ? ", modified" : ""}` : "none"],
    ["overrides", (PAYLOAD.overrides || []).join(" ")],
  ];
  return section(
    "environment",
    "Environment",
    h(
      "dl",
      { class: "facts" },
      rows.map(([name, value]) => [h("dt", null, name), h("dd", null, value)]),
    ),
  );
}
