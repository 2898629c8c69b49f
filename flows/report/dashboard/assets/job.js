// The page of a job: its outcome, stages, IR side by side, dims, and the comparison with eager.
function jobPage(id, query) {
  const index = PAYLOAD.jobs.findIndex((job) => job.id === id);
  if (index < 0)
    return [
      h("h1", null, "No such job"),
      h("p", { class: "wrap" }, `This run has no job '${id}'.`),
      h("p", null, h("a", { href: "#/" }, "Back to the run")),
    ];
  const job = PAYLOAD.jobs[index];
  const neighbour = (step, text) => {
    const other = PAYLOAD.jobs[index + step];
    return other ? h("a", { href: jobLink(other.id), rel: step < 0 ? "prev" : "next", title: other.id }, text) : null;
  };
  const folder = `jobs/${encodeURIComponent(job.f)}`;
  const body = h("div", { id: "job-body" }, h("p", { role: "status" }, "Loading the job's files …"));
  loadView(job.f).then(
    (view) => body.replaceChildren(...jobBody(job, view, folder, query).filter(Boolean)),
    (error) =>
      body.replaceChildren(
        h("p", { class: "notice" }, `${error.message}. Keep report.html in the run's folder to see IR, symbols and log.`),
        h("p", { class: "wrap" }, job.c),
      ),
  );
  return [
    h(
      "nav",
      { class: "crumbs", "aria-label": "Jobs" },
      h("a", { href: "#/" }, `‹ ${PAYLOAD.suite}`),
      neighbour(-1, "previous job"),
      neighbour(1, "next job"),
    ),
    h(
      "header",
      { class: `job-head ${kindOf(job)}` },
      h("h1", null, job.id),
      h(
        "p",
        null,
        badge(job.o, kindOf(job)),
        ` in ${job.g}`,
        job.e !== "ok" || !expected(job) ? `, expected ${job.e}` : "",
        job.u ? ` · unverified: ${job.u}` : "",
        job.y ? ` · verified on ${job.y}` : "",
        ` · ${seconds(job.s)} · peak ${bytes(job.p)}`,
      ),
      h(
        "p",
        null,
        "Lower it again: ",
        command(`sh ${folder}/${job.r}`, "the command that lowers this job again"),
        h("small", null, " from the run's folder"),
      ),
    ),
    body,
  ];
}
function jobBody(job, view, folder, query) {
  const { detail, levels } = view;
  const link = (name) => (detail.files.includes(name) ? h("a", { href: `${folder}/${encodeURIComponent(name)}` }, name) : name);
  return [
    detail.problems.length > 0 &&
      section(
        "problems",
        detail.problems.length === 1 ? "Problem" : `Problems (${detail.problems.length})`,
        h(
          "ol",
          { class: "problems" },
          detail.problems.map((problem) =>
            h(
              "li",
              null,
              problem.place && h("b", null, problem.place),
              h("pre", null, problem.cause),
              problem.fix && h("p", { class: "fix" }, `→ ${problem.fix}`),
            ),
          ),
        ),
      ),
    section("ladder", "Stages", ladder(detail.stages, levels, link)),
    levels.length > 0
      ? viewer(job, view, folder, query)
      : section("ir", "IR", h("p", null, "No level of this job was saved, or its files were removed by the retention of old runs.")),
    section("symbols", "Symbols", symbolsOf(detail.symbols, detail.annotated)),
    section("verification", "Verification", verificationOf(detail.verify)),
    detail.buckets?.length > 0 && section("buckets", `Buckets (${detail.buckets.length})`, bucketsOf(detail.buckets)),
    detail.warnings.length > 0 &&
      section(
        "warnings",
        `Warnings (${detail.warnings.length})`,
        table(
          ["stage", "code", "place", "message"].map((text) => ({ text })),
          detail.warnings.map((one) => [
            one.stage,
            one.code,
            h("span", { class: "wrap" }, one.place),
            h("span", { class: "wrap" }, one.message),
          ]),
          { label: "Warnings" },
        ),
      ),
    section(
      "log",
      "Log",
      detail.log
        ? h(
            "details",
            { open: detail.log.length < 4000 && !expected(job) },
            h("summary", null, `${count(detail.log.split("\n").length - 1, "line")}`),
            h("pre", { class: "log", tabindex: "0", role: "region", "aria-label": "Log" }, detail.log),
          )
        : h("p", null, "The log is empty."),
    ),
    section(
      "files",
      "Files",
      h(
        "ul",
        { class: "names" },
        detail.files.map((name) => h("li", null, link(name))),
      ),
    ),
  ];
}
function ladder(stages, levels, link) {
  const all = stages.reduce((sum, stage) => sum + stage.seconds, 0) || 1;
  const heads = [
    "stage",
    "outcome",
    { text: "time", class: "num" },
    { text: "share", class: "share" },
    { text: "CPU", class: "num" },
    { text: "peak", class: "num" },
    "cache",
    "ops",
    "artifact",
  ].map((head) => (head.text ? head : { text: head }));
  const rows = stages.map((stage) => {
    const phases = Object.entries(stage.phases || {})
      .map(([name, time]) => `${name} ${seconds(time)}`)
      .join(", ");
    return [
      h("b", null, stage.name),
      badge(stage.outcome),
      h("span", { title: phases }, seconds(stage.seconds)),
      h("span", { class: "meter", style: `--part:${((100 * stage.seconds) / all).toFixed(1)}%` }),
      seconds(stage.cpu_seconds),
      bytes(stage.peak_rss_bytes),
      cacheOf(stage),
      histogram(stage.ops || {}),
      stage.artifact ? link(stage.artifact) : "",
    ];
  });
  return table(heads, rows, { label: "Stages", class: "plain ladder" });
}
function cacheOf(stage) {
  if (stage.cache === "off") return "";
  const says = stage.cache === "hit" ? stage.maker && `made by ${stage.maker}` : stage.why && `because ${stage.why}`;
  return h("span", { class: "wrap" }, stage.cache, says && h("small", null, ` ${says}`));
}
function histogram(ops) {
  const sorted = Object.entries(ops).sort((one, other) => other[1] - one[1]);
  const total = sorted.reduce((sum, [, many]) => sum + many, 0);
  if (!total) return "";
  const most = sorted[0][1];
  return h(
    "details",
    null,
    h("summary", null, `${total.toLocaleString("en")} of ${count(sorted.length, "kind")}`),
    h(
      "ol",
      { class: "histogram" },
      sorted.map(([name, many]) =>
        h(
          "li",
          null,
          h("code", null, name),
          h("span", { class: "value" }, many.toLocaleString("en")),
          h("span", { class: "bar", "aria-hidden": "true", style: `--part:${((100 * many) / most).toFixed(1)}%` }),
        ),
      ),
    ),
  );
}
