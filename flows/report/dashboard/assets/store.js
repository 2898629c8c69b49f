// The data of the page and the views of jobs, loaded from the page itself or from view.js in the job's folder.
const PAYLOAD = JSON.parse(document.getElementById("payload").textContent);
const views = new Map();
const waiting = new Map();

window.shapelineView = (folder, view) => waiting.get(folder)?.(view);

function loadView(folder) {
  if (!views.has(folder)) views.set(folder, find(folder).then(opened));
  return views.get(folder);
}
function find(folder) {
  for (const element of document.querySelectorAll("script[data-view]")) {
    if (element.dataset.view === folder) return Promise.resolve(JSON.parse(element.textContent));
  }
  return new Promise((resolve, reject) => {
    waiting.set(folder, resolve);
    const script = document.createElement("script");
    script.src = `jobs/${encodeURIComponent(folder)}/view.js`;
    script.onerror = () => {
      views.delete(folder);
      reject(new Error(`${decodeURIComponent(script.getAttribute("src"))} was not found next to this page`));
    };
    script.onload = () => script.remove();
    document.head.append(script);
  });
}
async function opened(view) {
  if (view.schema !== 1) throw new Error(`the job's view has schema ${view.schema}, this page reads 1: run shapeline report again`);
  const detail = JSON.parse(await unpacked(view.detail));
  return { detail, levels: view.levels };
}
async function unpacked(packed) {
  const raw = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).text();
}
const levelTexts = new WeakMap();
function levelText(level) {
  if (!levelTexts.has(level)) levelTexts.set(level, level.packed ? unpacked(level.packed) : Promise.resolve(""));
  return levelTexts.get(level);
}

const OUTCOME_SIGN = {
  ok: "✓",
  unsupported: "⊘",
  error: "✗",
  mismatch: "≠",
  crash: "†",
  timeout: "◷",
  oom: "▣",
  load_error: "⇣",
  infra: "☁",
  not_run: "–",
};
const SAYS_NOTHING = new Set(["infra", "not_run"]);
const expected = (job) => job.x;
const kindOf = (job) => (expected(job) ? (job.o === "ok" ? "good" : "known") : SAYS_NOTHING.has(job.o) ? "apart" : "bad");
function badge(outcome, kind = outcome === "ok" ? "good" : SAYS_NOTHING.has(outcome) ? "apart" : "bad") {
  return h(
    "span",
    { class: `badge ${kind}` },
    h("span", { "aria-hidden": "true" }, OUTCOME_SIGN[outcome] || "?"),
    ` ${outcome.replace("_", " ")}`,
  );
}
const jobLink = (id, query = "") => `#/job/${encodeURIComponent(id)}${query}`;
