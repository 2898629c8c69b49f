// The runs of a folder: their trend by suite and by model. PAYLOAD.kind is "index" on that page; a run's page shows its suite's trend.
function trendSection(trend) {
  return section(
    "trend",
    "Trend",
    h(
      "p",
      null,
      `The last ${trend.length} runs of ${PAYLOAD.suite || "the suite"}. `,
      PAYLOAD.kind === "run" && h("a", { href: "../index.html" }, "All runs"),
    ),
    trendTable(trend),
    staleHint(trend),
  );
}
function stack(run, most) {
  const parts = Object.entries(run.outcomes).map(([outcome, many]) =>
    h("span", {
      class: `part o-${outcome === "ok" ? "ok" : SAYS_NOTHING.has(outcome) ? "apart" : "bad"}`,
      style: `--part:${((100 * many) / most).toFixed(2)}%`,
      title: `${many} ${outcome}`,
    }),
  );
  return h(
    "span",
    {
      class: "stack",
      role: "img",
      "aria-label": Object.entries(run.outcomes)
        .map(([outcome, many]) => `${many} ${outcome}`)
        .join(", "),
    },
    parts,
  );
}
function trendTable(trend) {
  const most = Math.max(...trend.map((run) => run.jobs), 1);
  const slow = Math.max(...trend.map((run) => run.seconds || 0), 1e-9);
  const name = (run) =>
    run.run === PAYLOAD.run
      ? h("b", null, "this run")
      : h("a", { href: `${PAYLOAD.kind === "run" ? "../" : ""}${encodeURIComponent(run.run)}/report.html` }, when(run.started));
  return table(
    [
      { text: "run" },
      { text: "suite" },
      { text: "outcomes", class: "wide" },
      { text: "ok", class: "num" },
      { text: "not as expected", class: "num" },
      { text: "infra", class: "num" },
      { text: "wall time", class: "num" },
      { text: "", class: "share" },
      { text: "time of stages", class: "num" },
      { text: "largest", class: "num" },
      { text: "IR", class: "num" },
      { text: "commit" },
    ],
    trend.map((run) => [
      name(run),
      run.suite,
      stack(run, most),
      run.outcomes.ok || 0,
      h("span", { class: run.unexpected ? "lost" : "" }, run.unexpected),
      (run.outcomes.infra || 0) + (run.outcomes.not_run || 0),
      seconds(run.seconds),
      h("span", { class: "meter", "aria-hidden": "true", style: `--part:${((100 * (run.seconds || 0)) / slow).toFixed(1)}%` }),
      measured(run, seconds(run.stage_seconds)),
      measured(run, bytes(run.peak)),
      bytes(run.ir_bytes),
      h("code", null, (run.commit || "").slice(0, 10)),
    ]),
    { label: "Trend" },
  );
}
function indexPage() {
  const model = /^#\/model\/([^/]*)\/([^/]*)$/.exec(location.hash);
  if (model) return modelPage(...model.slice(1).map(decodeURIComponent));
  const suites = [...new Set(PAYLOAD.runs.map((run) => run.suite))];
  const state = { suite: suites.length === 1 ? suites[0] : "" };
  const holder = h("div");
  const draw = () => holder.replaceChildren(trendTable(PAYLOAD.runs.filter((run) => !state.suite || run.suite === state.suite)));
  draw();
  const longest = Math.max(...PAYLOAD.models.map((one) => one.points.length), 1);
  const lasts = PAYLOAD.models.map((one) => pointsOf(one).at(-1));
  const models = PAYLOAD.models.map((one, index) => {
    const last = lasts[index];
    return [
      h("a", { href: modelLink(one) }, one.model),
      one.suite,
      dots(pointsOf(one), longest),
      ...FIGURES.map(([, cell]) => cell(last)),
    ];
  });
  return [
    h("h1", null, "Runs"),
    h("p", { class: "sub" }, `${count(PAYLOAD.runs.length, "run")} of ${count(suites.length, "suite")}`),
    section("nights", "Last runs of each suite", nightsTable(PAYLOAD.nights)),
    section(
      "runs",
      "By suite",
      chooser("Suite", [["", "all"], ...suites.map((name) => [name, name])], state.suite, (value) => {
        state.suite = value;
        draw();
      }),
      holder,
      staleHint(PAYLOAD.runs),
    ),
    section(
      "models",
      "By model",
      table(
        [
          { text: "model" },
          { text: "suite" },
          { text: "runs, oldest first" },
          ...FIGURES.map(([head]) => head),
        ],
        models,
        { label: "Models" },
      ),
      staleHint(lasts),
    ),
  ];
}
// Figures of stages that were taken from the store are those of the last run that executed them.
const measured = (point, text) =>
  point.cached && text
    ? h("span", { class: "stale", title: "with stages from the store: what they cost when they last ran" }, `${text}*`)
    : text;
// The columns of a run of a model: heads and cells.
const FIGURES = [
  [
    { text: "as expected", class: "num" },
    (point) => h("span", { class: point.ok === point.jobs ? "" : "lost" }, `${point.ok} of ${point.jobs}`),
  ],
  [{ text: "level" }, (point) => point.level],
  [{ text: "dims dynamic", class: "num" }, (point) => (point.dims ? `${point.kept} of ${point.dims}` : "")],
  [{ text: "time", class: "num" }, (point) => measured(point, seconds(point.seconds))],
  [{ text: "peak", class: "num" }, (point) => measured(point, bytes(point.peak))],
  [{ text: "IR", class: "num" }, (point) => bytes(point.ir)],
];
const staleHint = (points) =>
  points.some((point) => point.cached) &&
  h("p", { class: "hint" }, "* includes stages taken from the store, with what they cost when they last ran.");
const modelLink = (one) => `#/model/${encodeURIComponent(one.suite)}/${encodeURIComponent(one.model)}`;
const pointsOf = (one) => one.points.map((row) => Object.fromEntries(row.map((value, index) => [PAYLOAD.columns[index], value])));
function nightsTable(nights) {
  const figure = (value, style) => h("span", { class: value ? style : "none" }, value);
  return table(
    [
      { text: "suite" },
      { text: "run" },
      { text: "jobs", class: "num" },
      { text: "new failures", class: "num" },
      { text: "recurring", class: "num" },
      { text: "fixed", class: "num" },
      { text: "no verdict", class: "num" },
    ],
    nights.map((night) => [
      night.suite,
      h("a", { href: `${encodeURIComponent(night.run)}/report.html` }, when(night.started)),
      night.jobs,
      figure(night.new, "lost"),
      figure(night.recurring, ""),
      figure(night.fixed, "gained"),
      figure(night.unjudged, ""),
    ]),
    { label: "Last runs" },
  );
}
function modelPage(suite, name) {
  const one = PAYLOAD.models.find((model) => model.suite === suite && model.model === name);
  const back = h("p", null, h("a", { href: "#/" }, "All runs"));
  if (!one) return [h("h1", null, name), h("p", null, `No run of suite ${suite} has this model.`), back];
  const points = pointsOf(one);
  const series = (title, key, format) =>
    lines(
      title,
      points
        .map((point, index) => ({
          x: index,
          y: point[key],
          line: name,
          job: { id: when(point.started), o: point.ok === point.jobs ? "ok" : "error", x: point.ok === point.jobs },
        }))
        .filter((point) => point.y !== null),
      format,
    );
  return [
    h("h1", null, name),
    h("p", { class: "sub" }, `${suite} · the last ${count(points.length, "run")}`),
    back,
    points.length > 1 &&
      h("figure", { class: "pair" }, series("time", "seconds", seconds), series("peak memory", "peak", bytes), series("IR", "ir", bytes)),
    section(
      "course",
      "Run by run",
      table(
        [
          { text: "run" },
          ...FIGURES.map(([head]) => head),
          { text: "largest relative error", class: "num" },
          { text: "changes", class: "wide" },
        ],
        [...points].reverse().map((point) => [
          h("a", { href: `${encodeURIComponent(point.run)}/report.html` }, when(point.started)),
          ...FIGURES.map(([, cell]) => cell(point)),
          number(point.error),
          h(
            "ul",
            { class: "plain-list" },
            point.changes.map((text) => h("li", null, text)),
          ),
        ]),
        { label: name },
      ),
      staleHint(points),
    ),
  ];
}
// The newest run stands at the right edge: columns of dots can be compared from model to model. longest: of all rows, in runs.
function dots(points, longest) {
  const [width, height] = [Math.max(60, longest * 9), 30];
  const most = Math.max(...points.map((point) => point.seconds || 0), 1e-9);
  const x = (index) => width - 5 - (points.length - 1 - index) * 9,
    y = (point) => height - 5 - (height - 10) * ((point.seconds || 0) / most);
  return svg(
    "svg",
    {
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      role: "img",
      "aria-label": points
        .map((point) => `${when(point.started)}: ${point.ok} of ${point.jobs} as expected, ${seconds(point.seconds)}`)
        .join("; "),
    },
    svg("path", { class: "series s0", d: points.map((point, index) => `${index ? "L" : "M"}${x(index)} ${y(point).toFixed(1)}`).join("") }),
    points.map((point, index) =>
      svg(
        "circle",
        { class: `dot s0 ${point.ok === point.jobs ? "good" : "bad"}`, cx: x(index), cy: y(point), r: 3 },
        svg("title", {}, `${when(point.started)}: ${point.ok} of ${point.jobs} as expected, ${seconds(point.seconds)}`),
      ),
    ),
  );
}
