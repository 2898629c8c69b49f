// The table of jobs by stage. Rows are drawn on demand and filters work on the data, so both stay fast with thousands of jobs.
const CHUNK = 50;
const matrix = { q: "", outcome: "", stage: "", group: "", sort: "order", down: false, cell: "seconds", closed: new Set() };

function matrixSection(jobs) {
  const axes = [...new Set(jobs.flatMap((job) => Object.keys(job.a)))].sort();
  const present = PAYLOAD.outcomes.filter((outcome) => jobs.some((job) => job.o === outcome));
  const set = (key) => (value) => {
    matrix[key] = value;
    drawRows();
  };
  const search = h("input", {
    type: "search",
    id: "search",
    placeholder: "job, cause, axis=value …",
    value: matrix.q,
    autocomplete: "off",
    spellcheck: "false",
    oninput: (event) => {
      matrix.q = event.target.value;
      drawRows();
    },
  });
  const bar = h(
    "div",
    { class: "toolbar", role: "search" },
    h("label", { class: "field grow" }, h("span", null, "Search ", h("kbd", null, "/")), search),
    chooser(
      "Outcome",
      [["", "all"], ["unexpected", "not as expected"], ...present.map((one) => [one, one.replace("_", " ")])],
      matrix.outcome,
      set("outcome"),
    ),
    chooser("Ended in", [["", "any stage"], ...PAYLOAD.stages.map((name) => [name, name])], matrix.stage, set("stage")),
    chooser(
      "Group by",
      [["", "nothing"], ["m", "family"], ["o", "outcome"], ["g", "last stage"], ["k", "cause"], ...axes.map((axis) => [`a:${axis}`, axis])],
      matrix.group,
      set("group"),
    ),
    chooser(
      "Sort by",
      [
        ["order", "order of the run"],
        ["id", "name"],
        ["s", "time"],
        ["p", "memory"],
        ["w", "warnings"],
        ["o", "outcome"],
        ...PAYLOAD.stages.map((name, index) => [`t:${index}`, `${name}`]),
      ],
      matrix.sort,
      (value) => {
        matrix.sort = value;
        matrix.down = !["order", "id", "o"].includes(value);
        drawRows();
      },
    ),
    chooser(
      "Cells show",
      [
        ["seconds", "time"],
        ["memory", "peak memory"],
        ["ops", "ops"],
      ],
      matrix.cell,
      set("cell"),
    ),
  );
  const heads = [
    ["id", "Job"],
    ["o", "Outcome"],
    ...PAYLOAD.stages.map((name, index) => [`t:${index}`, name]),
    ["s", "Time"],
    ["p", "Peak"],
    [null, "Dims"],
    ["w", "Warn"],
  ];
  const head = h(
    "tr",
    null,
    heads.map(([key, text]) =>
      h(
        "th",
        { scope: "col", "data-sort": key, class: key === "id" || key === "o" ? "" : "num" },
        key ? h("button", { type: "button", onclick: () => sortBy(key) }, text) : text,
      ),
    ),
  );
  return section(
    "jobs",
    "Jobs",
    bar,
    h("p", { id: "shown", role: "status", "aria-live": "polite" }),
    h(
      "div",
      { class: "scroll matrix", tabindex: "0", role: "region", "aria-label": "Jobs by stage" },
      h("table", { id: "matrix", style: `--stages:${PAYLOAD.stages.length}` }, h("thead", null, head), h("tbody")),
    ),
    h("p", { id: "more" }, h("button", { type: "button", onclick: () => moreRows(CHUNK * 8) }, "Show more")),
  );
}
function sortBy(key) {
  matrix.down = matrix.sort === key ? !matrix.down : !["id", "o"].includes(key);
  matrix.sort = key;
  drawRows();
}
function showJobs(wanted) {
  Object.assign(matrix, { stage: "" }, wanted);
  const old = document.getElementById("jobs");
  const fresh = matrixSection(PAYLOAD.jobs);
  old.replaceWith(fresh);
  drawRows();
  fresh.scrollIntoView({ block: "start" });
  fresh.querySelector("h2").focus({ preventScroll: true });
}
const searchText = new WeakMap();
function textOf(job) {
  if (!searchText.has(job)) {
    const axes = Object.entries(job.a).map(([key, value]) => `${key}=${typeof value === "object" ? JSON.stringify(value) : value}`);
    searchText.set(job, [job.id, job.o, job.g, job.c, ...axes].join("\n").toLowerCase());
  }
  return searchText.get(job);
}
function matching() {
  const signature = matrix.q.startsWith("signature:") ? matrix.q.slice(10) : null;
  const words = matrix.q.toLowerCase().split(/\s+/).filter(Boolean);
  return PAYLOAD.jobs.filter(
    (job) =>
      (!matrix.outcome || (matrix.outcome === "unexpected" ? !expected(job) : job.o === matrix.outcome)) &&
      (!matrix.stage || job.g === matrix.stage) &&
      (signature !== null
        ? job.k === signature
        : words.every((word) =>
            word.startsWith("-") && word.length > 1 ? !textOf(job).includes(word.slice(1)) : textOf(job).includes(word),
          )),
  );
}
function sortKey(job) {
  const [kind, index] = matrix.sort.split(":");
  if (kind === "t") {
    const stage = job.t.find((one) => one[0] === Number(index));
    return stage ? (stage[matrix.cell === "memory" ? 3 : matrix.cell === "ops" ? 5 : 2] ?? -1) : -1;
  }
  return kind === "o" ? PAYLOAD.outcomes.indexOf(job.o) : (job[kind] ?? -1);
}
function groupOf(job) {
  if (!matrix.group) return "";
  const [kind, axis] = [matrix.group.split(":")[0], matrix.group.slice(2)];
  const value = kind === "a" ? job.a[axis] : job[kind];
  return kind === "k" && !value
    ? "as expected"
    : value === undefined
      ? "does not vary"
      : typeof value === "object"
        ? JSON.stringify(value)
        : String(value);
}
let queue = [];
function drawRows() {
  const body = document.querySelector("#matrix tbody");
  const jobs = matching();
  if (matrix.sort !== "order") {
    const keys = new Map(jobs.map((job) => [job, sortKey(job)]));
    const sign = matrix.down ? -1 : 1;
    jobs.sort((one, other) => {
      const [a, b] = [keys.get(one), keys.get(other)];
      return a < b ? -sign : a > b ? sign : 0;
    });
  }
  for (const cell of document.querySelectorAll("#matrix th[data-sort]")) {
    if (cell.dataset.sort === matrix.sort) cell.setAttribute("aria-sort", matrix.down ? "descending" : "ascending");
    else cell.removeAttribute("aria-sort");
  }
  queue = matrix.group ? grouped(jobs) : [...jobs];
  body.replaceChildren();
  moreRows(CHUNK);
  const all = PAYLOAD.jobs.length;
  document.getElementById("shown").textContent =
    jobs.length === all ? `${count(all, "job")}` : `${jobs.length.toLocaleString("en")} of ${count(all, "job")}`;
}
function grouped(jobs) {
  const groups = new Map();
  for (const job of jobs) {
    const name = groupOf(job);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(job);
  }
  return [...groups].flatMap(([name, members]) => [{ group: name, members }, ...(matrix.closed.has(name) ? [] : members)]);
}
function moreRows(limit) {
  document
    .querySelector("#matrix tbody")
    .append(...queue.splice(0, limit).flatMap((item) => (item.members ? [groupRow(item)] : jobRows(item))));
  document.getElementById("more").hidden = !queue.length;
}
const columns = () => PAYLOAD.stages.length + 6;
function groupRow({ group, members }) {
  const open = !matrix.closed.has(group);
  const parts = PAYLOAD.outcomes.map((outcome) => [outcome, members.filter((job) => job.o === outcome).length]).filter(([, many]) => many);
  const toggle = () => {
    matrix.closed[open ? "add" : "delete"](group);
    drawRows();
  };
  return h(
    "tr",
    { class: "group" },
    h(
      "th",
      { colspan: columns(), scope: "rowgroup" },
      h("button", { type: "button", "aria-expanded": String(open), onclick: toggle }, `${open ? "▾" : "▸"} ${group}`),
      h(
        "span",
        { class: "counts" },
        parts.map(([outcome, many]) => [badge(outcome), ` ${many} `]),
        ` ${seconds(members.reduce((sum, job) => sum + job.s, 0))}, at most ${bytes(Math.max(...members.map((job) => job.p || 0)))}`,
      ),
    ),
  );
}
function jobRows(job) {
  const stages = new Map(job.t.map((stage) => [stage[0], stage]));
  const cells = PAYLOAD.stages.map((name, index) => stageCell(name, stages.get(index)));
  const row = h(
    "tr",
    { class: kindOf(job) },
    h("th", { scope: "row" }, h("a", { href: jobLink(job.id), title: job.id }, job.id)),
    h(
      "td",
      { title: expected(job) ? "as expected" : `expected ${job.e}` },
      badge(job.o, kindOf(job)),
      job.u && h("span", { class: "badge apart", title: job.u }, " unverified"),
      job.y && h("span", { class: "badge apart", title: `verified on ${job.y}` }, " twin"),
    ),
    cells,
    h("td", { class: "num" }, seconds(job.s)),
    h("td", { class: "num" }, bytes(job.p)),
    h(
      "td",
      {
        class: `num ${job.d && job.d[0] < job.d[1] ? "lost" : ""}`,
        title: job.d ? `${job.d[0]} of ${job.d[1]} requested dims are dynamic` : "",
      },
      job.d ? `${job.d[0]}/${job.d[1]}` : "",
    ),
    h("td", { class: "num" }, job.w || ""),
  );
  if (!job.c || expected(job)) return [row];
  const more = job.n > 1 ? ` (and ${job.n - 1} more)` : "";
  return [row, h("tr", { class: "said" }, h("td", { colspan: columns() }, h("span", null, `${job.g}: ${job.c}${more}`)))];
}
function stageCell(name, stage) {
  if (!stage) return h("td", { class: "num none" });
  const [, outcome, time, memory, cache, ops] = stage;
  const shown = { seconds: seconds(time), memory: bytes(memory), ops: ops ? ops.toLocaleString("en") : "" }[matrix.cell];
  const kind = outcome === "ok" ? (cache === "hit" ? "cached" : "good") : SAYS_NOTHING.has(outcome) ? "apart" : "bad";
  const says = `${name}: ${outcome}${cache === "hit" ? ", from the cache" : ""}, ${seconds(time)}, ${bytes(memory)}, ${count(ops, "op")}`;
  return h(
    "td",
    { class: `num cell ${kind}`, title: says },
    h(
      "span",
      { class: "sign", role: "img", "aria-label": outcome },
      cache === "hit" && outcome === "ok" ? "↺" : OUTCOME_SIGN[outcome] || "?",
    ),
    ` ${shown}`,
  );
}
