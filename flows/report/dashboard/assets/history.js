// The runs of a folder: their trend by suite and by model. PAYLOAD.kind is "index" on that page; a run's page shows its suite's trend.
function trendSection(trend) {
  return section("trend", "Trend", h("p", null, `The last ${trend.length} runs of ${PAYLOAD.suite || "the suite"}. `, PAYLOAD.kind === "run" && h("a", { href: "../index.html" }, "All runs")), trendTable(trend));
}
function stack(run, most) {
  const parts = Object.entries(run.outcomes).map(([outcome, many]) => h("span", { class: `part o-${outcome === "ok" ? "ok" : SAYS_NOTHING.has(outcome) ? "apart" : "bad"}`, style: `--part:${(100 * many / most).toFixed(2)}%`, title: `${many} ${outcome}` }));
  return h("span", { class: "stack", role: "img", "aria-label": Object.entries(run.outcomes).map(([outcome, many]) => `${many} ${outcome}`).join(", ") }, parts);
}
function trendTable(trend) {
  const most = Math.max(...trend.map((run) => run.jobs), 1);
  const slow = Math.max(...trend.map((run) => run.seconds || 0), 1e-9);
  const name = (run) => (run.run === PAYLOAD.run ? h("b", null, "this run") : h("a", { href: `${PAYLOAD.kind === "run" ? "../" : ""}${encodeURIComponent(run.run)}/report.html` }, when(run.started)));
  return table([{ text: "run" }, { text: "suite" }, { text: "outcomes", class: "wide" }, { text: "ok", class: "num" }, { text: "not as expected", class: "num" }, { text: "infra", class: "num" }, { text: "wall time", class: "num" }, { text: "", class: "share" },
    { text: "time of stages", class: "num" }, { text: "largest", class: "num" }, { text: "IR", class: "num" }, { text: "commit" }],
  trend.map((run) => [name(run), run.suite, stack(run, most), run.outcomes.ok || 0, h("span", { class: run.unexpected ? "lost" : "" }, run.unexpected), (run.outcomes.infra || 0) + (run.outcomes.not_run || 0), seconds(run.seconds),
    h("span", { class: "meter", "aria-hidden": "true", style: `--part:${(100 * (run.seconds || 0) / slow).toFixed(1)}%` }), seconds(run.stage_seconds), bytes(run.peak), bytes(run.ir_bytes), h("code", null, (run.commit || "").slice(0, 10))]), { label: "Trend" });
}
function indexPage() {
  const suites = [...new Set(PAYLOAD.runs.map((run) => run.suite))];
  const state = { suite: suites.length === 1 ? suites[0] : "" };
  const holder = h("div");
  const draw = () => holder.replaceChildren(trendTable(PAYLOAD.runs.filter((run) => !state.suite || run.suite === state.suite)));
  draw();
  const models = PAYLOAD.models.map((model) => [h("b", null, model.model), model.suite, dots(model.points), seconds(model.points.at(-1)?.seconds), bytes(model.points.at(-1)?.peak), bytes(model.points.at(-1)?.ir)]);
  return [h("h1", null, "Runs"), h("p", { class: "sub" }, `${count(PAYLOAD.runs.length, "run")} of ${count(suites.length, "suite")}`),
    section("runs", "By suite", chooser("Suite", [["", "all"], ...suites.map((name) => [name, name])], state.suite, (value) => { state.suite = value; draw(); }), holder),
    section("models", "By model", table([{ text: "model" }, { text: "suite" }, { text: "runs, oldest first" }, { text: "time", class: "num" }, { text: "peak", class: "num" }, { text: "IR", class: "num" }], models, { label: "Models" }))];
}
function dots(points) {
  const [width, height] = [Math.max(60, points.length * 9), 30];
  const most = Math.max(...points.map((point) => point.seconds || 0), 1e-9);
  const x = (index) => 5 + index * 9, y = (point) => height - 5 - (height - 10) * ((point.seconds || 0) / most);
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": points.map((point) => `${when(point.started)}: ${point.ok} of ${point.jobs} as expected, ${seconds(point.seconds)}`).join("; ") },
    svg("path", { class: "series s0", d: points.map((point, index) => `${index ? "L" : "M"}${x(index)} ${y(point).toFixed(1)}`).join("") }),
    points.map((point, index) => svg("circle", { class: `dot s0 ${point.ok === point.jobs ? "good" : "bad"}`, cx: x(index), cy: y(point), r: 3 }, svg("title", {}, `${when(point.started)}: ${point.ok} of ${point.jobs} as expected, ${seconds(point.seconds)}`))));
}
