// Routing: draws the page of the address, #/ for the run, #/job/ID for a job. Runs last.
function route() {
  const [path, query] = location.hash.replace(/^#/, "").split("?");
  const app = document.getElementById("app");
  const job = /^\/job\/(.*)$/.exec(path);
  const content =
    PAYLOAD.kind === "index"
      ? indexPage()
      : PAYLOAD.kind === "diff"
        ? [h("h1", null, "Two runs compared"), comparison(PAYLOAD.comparison, "Changes", false)]
        : job
          ? jobPage(decodeURIComponent(job[1]), new URLSearchParams(query || ""))
          : overview();
  app.replaceChildren(topBar(), h("main", { id: "main", tabindex: "-1" }, content));
  document.title = job ? `${decodeURIComponent(job[1])} · ${PAYLOAD.suite}` : PAYLOAD.title || `${PAYLOAD.suite} · ${PAYLOAD.run}`;
  if (document.getElementById("matrix")) drawRows();
  scrollTo(0, 0);
}
function topBar() {
  const jump = (id) => (event) => {
    event.preventDefault();
    const title = document.getElementById(`${id}-title`);
    title?.scrollIntoView({ block: "start" });
    title?.focus({ preventScroll: true });
  };
  const job = location.hash.startsWith("#/job/");
  const places =
    PAYLOAD.kind !== "run"
      ? []
      : job
        ? [
            ["ladder", "Stages"],
            ["ir", "IR"],
            ["symbols", "Symbols"],
            ["verification", "Verification"],
            ["log", "Log"],
          ]
        : [
            ["changes", "Changes", PAYLOAD.previous || PAYLOAD.baseline],
            ["failures", "Failures", PAYLOAD.jobs.some((one) => one.k)],
            ["jobs", "Jobs"],
            ["cost", "Time and memory"],
            ["environment", "Environment"],
          ].filter((place) => place.length < 3 || place[2]);
  return h(
    "header",
    { class: "top" },
    h("a", { class: "brand", href: PAYLOAD.kind === "run" ? "#/" : "#" }, "Shapeline"),
    h("span", { class: "where" }, PAYLOAD.suite || ""),
    h(
      "nav",
      { "aria-label": "Sections" },
      places.map(([id, text]) => h("a", { href: `#${id}`, onclick: jump(id) }, text)),
      PAYLOAD.kind === "run" && PAYLOAD.trend && h("a", { href: "../index.html" }, "All runs"),
    ),
    themeButton(),
  );
}
const THEMES = ["auto", "light", "dark"];
function themeButton() {
  const now = () => document.documentElement.dataset.theme;
  const button = h(
    "button",
    {
      type: "button",
      id: "theme",
      onclick: () => {
        setTheme(THEMES[(THEMES.indexOf(now()) + 1) % 3]);
        button.textContent = `Theme: ${now()}`;
      },
    },
    `Theme: ${now()}`,
  );
  return button;
}
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("shapeline-theme", theme);
  } catch {
    /* some browsers store nothing for pages from disk: the choice then lasts until the page is closed */
  }
}
try {
  const kept = localStorage.getItem("shapeline-theme");
  if (THEMES.includes(kept)) setTheme(kept);
} catch {
  /* as above */
}
addEventListener("hashchange", () => {
  if (!location.hash || location.hash.startsWith("#/")) route();
});
addEventListener("keydown", (event) => {
  if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName) && document.getElementById("search")) {
    event.preventDefault();
    document.getElementById("search").focus();
    document.getElementById("search").scrollIntoView({ block: "center" });
  }
});
addEventListener(
  "scroll",
  () => {
    const more = document.getElementById("more");
    if (more && !more.hidden && more.getBoundingClientRect().top < innerHeight + 400) moreRows(CHUNK);
  },
  { passive: true },
);
addEventListener("beforeprint", () => {
  if (document.getElementById("matrix")) moreRows(Infinity);
  for (const folded of document.querySelectorAll("details")) folded.open = true;
  for (const pane of panesInView) pane.print(true);
});
addEventListener("afterprint", () => {
  for (const pane of panesInView) pane.print(false);
});
route();
