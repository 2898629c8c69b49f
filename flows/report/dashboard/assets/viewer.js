// Two levels side by side: an item followed on one side is shown on the other. In print both are complete, one after the other.
let panesInView = [];
class Viewer {
  constructor(job, view, folder, query) {
    Object.assign(this, { job, view, folder, followed: null });
    this.panes = panesInView = [new Pane("left", this), new Pane("right", this)];
    this.symbol = h("select", {
      "aria-label": "Follow a symbol",
      onchange: () => this.symbol.value && this.followSymbol(this.symbol.value),
    });
    this.line = h("select", {
      "aria-label": "Follow a code line",
      class: "lines",
      onchange: () => this.line.value && this.followLine(this.line.value, this.panes[0]),
    });
    this.says = h("output", { class: "following", "aria-live": "polite" });
    this.clear = h("button", { type: "button", class: "small", onclick: () => this.follow(null) }, "Clear");
    this.step = (by) =>
      h(
        "button",
        {
          type: "button",
          class: "small",
          onclick: () => this.panes.forEach((pane) => this.show(pane, Math.min(view.levels.length - 1, Math.max(0, pane.index + by)))),
        },
        by > 0 ? "one level down" : "one level up",
      );
    this.element = section(
      "ir",
      "IR",
      h(
        "div",
        { class: "toolbar" },
        h("label", { class: "field" }, h("span", null, "Follow a symbol"), this.symbol),
        h("label", { class: "field grow" }, h("span", null, "Follow a code line"), this.line),
        this.step(-1),
        this.step(1),
      ),
      h("p", { class: "follow-bar" }, this.says, this.clear),
      h(
        "div",
        { class: "panes" },
        this.panes.map((pane) => pane.element),
      ),
      h(
        "p",
        { class: "hint" },
        "Choose a value to follow it, a line number to follow its line of code. Keys in the IR: arrows move, Enter follows the " +
          "line's code, V its value, F folds, Escape ends.",
      ),
    );
    const names = view.levels.map((level) => level.stem);
    this.panes.forEach((pane) =>
      pane.select.append(
        ...view.levels.map((level, index) => h("option", { value: index }, `${level.stem} · ${level.lines.toLocaleString("en")} lines`)),
      ),
    );
    const start = (key, otherwise) => (names.includes(query.get(key)) ? names.indexOf(query.get(key)) : otherwise);
    const last = view.levels.length - 1;
    this.ready = Promise.all([
      this.show(this.panes[0], start("left", Math.max(0, last - 1))),
      this.show(this.panes[1], start("right", last)),
    ]).then(() => this.symbols());
    this.says.textContent = "Nothing is followed.";
  }
  async show(pane, index) {
    pane.index = index;
    pane.select.value = String(index);
    const level = this.view.levels[index];
    await pane.load(level, `${this.folder}/${encodeURIComponent(level.file)}`);
    pane.mark(this.followed);
    this.codeLines();
    if (this.followed) this.reveal(pane);
  }
  async symbols() {
    const record = this.view.detail.symbols;
    const exported = this.view.levels.find((level) => languageOf(level.file) === "py");
    this.exported = exported ? analysed(await levelText(exported), exported.file) : null;
    this.types = typesOf(this.exported, record?.symbols || []);
    for (const pane of this.panes) {
      pane.nameArguments();
      pane.draw();
    }
    const known = rootsOf(record?.symbols || []);
    this.symbol.replaceChildren(
      h("option", { value: "" }, known.length ? "choose …" : "none"),
      ...known.map(([name, text]) => h("option", { value: name }, text)),
    );
    this.symbol.disabled = !known.length || !this.exported;
  }
  codeLines() {
    const counts = new Map();
    for (const pane of this.panes) for (const line of pane.level?.code.values() || []) counts.set(line, (counts.get(line) || 0) + 1);
    const sorted = [...counts].sort((one, other) => (one[0] < other[0] ? -1 : 1));
    this.line.replaceChildren(
      h("option", { value: "" }, sorted.length ? `choose among ${sorted.length} …` : "these levels have no code lines"),
      ...sorted.map(([line, many]) => h("option", { value: line }, `${tail(line, 90)} (${count(many, "line")})`)),
    );
    this.line.value = this.followed?.kind === "line" ? this.followed.what : "";
  }
  followLine(what, pane) {
    if (what) this.follow({ kind: "line", what, says: `the code line ${what}` }, pane);
  }
  followValue(what, pane) {
    if (!what) return;
    const origin = originOf(what, pane.level);
    this.follow(
      {
        kind: "value",
        what,
        from: pane.level,
        says: `${what} of ${pane.source.stem}${origin && origin !== what.replace(/^%/, "") ? `, part of ${origin}` : ""}`,
      },
      pane,
    );
  }
  followSymbol(what) {
    this.follow({
      kind: "symbol",
      what,
      places: placesOf(what.split(" "), this.exported),
      says: `the symbol ${this.symbol.selectedOptions[0].textContent}`,
    });
  }
  follow(followed, origin) {
    this.followed = followed;
    for (const pane of this.panes) {
      pane.mark(followed);
      if (followed && pane !== origin) this.reveal(pane);
    }
    if (followed?.kind !== "symbol") this.symbol.value = "";
    this.line.value = followed?.kind === "line" ? followed.what : "";
    const marked = ({ marks, source }) =>
      `${count(marks.lines.size, "line")} of ${source.stem}${marks.exact || !marks.lines.size ? "" : " by the line of code"}`;
    this.says.textContent = followed ? `Following ${followed.says}: ${this.panes.map(marked).join(", ")}.` : "Nothing is followed.";
  }
  reveal(pane) {
    const first = Math.min(...pane.marks.lines);
    if (Number.isFinite(first)) pane.go(first);
  }
}
function viewer(job, view, folder, query) {
  const made = new Viewer(job, view, folder, query);
  return made.element;
}
