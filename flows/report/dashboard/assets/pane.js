// The text of one level. Only visible lines are drawn, so it can be of any size. Arrow keys move, Enter follows.
const LINE_HEIGHT = 19;
const PRINTED = 20000; // lines of a level on paper
class Pane {
  constructor(name, owner) {
    this.name = name;
    this.owner = owner;
    this.level = null;
    this.visible = [];
    this.folded = new Set();
    this.at = 0;
    this.search = "";
    this.marks = traced(null);
    this.named = new Map();
    this.select = h("select", { "aria-label": `Level on the ${name}`, onchange: () => owner.show(this, Number(this.select.value)) });
    this.find = h("input", {
      type: "search",
      placeholder: "search",
      "aria-label": `Search on the ${name}`,
      spellcheck: "false",
      oninput: () => this.searched(),
      onkeydown: (event) => {
        if (event.key === "Enter") {
          this.jump(this.hits(), event.shiftKey ? -1 : 1);
          event.preventDefault();
        }
      },
    });
    this.found = h("output", { "aria-live": "polite" });
    this.file = h("a", { class: "file" });
    this.sizer = h("div", { class: "sizer" });
    this.rows = h("div", { class: "rows" });
    this.box = h(
      "div",
      {
        class: "code",
        tabindex: "0",
        role: "region",
        "aria-label": `IR on the ${name}: arrow keys move, Enter follows the code line, V the value, F folds`,
        onscroll: () => this.draw(),
        onkeydown: (event) => this.key(event),
        onclick: (event) => this.click(event),
      },
      this.sizer,
      this.rows,
    );
    const button = (text, label, act) =>
      h("button", { type: "button", class: "small", "aria-label": `${label} on the ${name}`, title: label, onclick: act }, text);
    this.element = h(
      "div",
      { class: "pane" },
      h(
        "div",
        { class: "pane-bar" },
        this.select,
        this.find,
        button("↑", "Previous match", () => this.jump(this.hits(), -1)),
        button("↓", "Next match", () => this.jump(this.hits(), 1)),
        button("⊟", "Fold all", () => this.foldAll()),
        button("⊞", "Unfold all", () => {
          this.folded.clear();
          this.layout();
        }),
        this.found,
        this.file,
      ),
      this.box,
    );
    new ResizeObserver(() => this.draw()).observe(this.box);
  }
  async load(level, href) {
    this.source = level;
    this.file.textContent = "open file";
    this.file.href = href;
    this.file.title = `${level.file}, ${bytes(level.size)}${level.file.endsWith(".zst") ? " of text: shapeline show prints it" : ""}`;
    this.level = analysed(await levelText(level), level.file);
    if (!level.packed) this.level.lines = [`${level.file} has ${bytes(level.size)}: open the file itself`];
    this.folded.clear();
    this.at = this.level.language === "mlir" ? bodyOf(this.level.lines, this.level.numbers) : 0;
    this.nameArguments();
    this.layout();
    this.box.scrollTop = Math.max(0, this.at - 1) * LINE_HEIGHT;
    this.draw();
  }
  nameArguments() {
    if (this.level) this.named = argumentNames(this.level, this.owner.exported);
  }
  // What a line shows when pointed at: its line of code, and the value that it computes with the sizes in the model's symbols.
  hint(index) {
    const name = this.level.defines[index][0],
      origin = name && originOf(name, this.level),
      type = origin && this.owner.types?.get(origin);
    return [this.level.code.get(index), type && `${origin}: ${type}`].filter(Boolean).join("\n") || null;
  }
  layout() {
    this.visible = [];
    let until = -1;
    this.level.lines.forEach((line, index) => {
      if (index > until) {
        this.visible.push(index);
        if (this.folded.has(index)) until = this.end(index);
      }
    });
    this.sizer.style.height = `${this.visible.length * LINE_HEIGHT}px`;
    this.sizer.style.width = `${Math.min(6100, Math.max(...this.level.lines.map((line) => line.length), 10)) + 9}ch`;
    this.draw();
  }
  indent(index) {
    const line = this.level.lines[index];
    return line.trim() ? line.search(/\S/) : Infinity;
  }
  end(index) {
    let last = index;
    const depth = this.indent(index);
    while (last + 1 < this.level.lines.length && this.indent(last + 1) > depth) last += 1;
    return last;
  }
  foldable(index) {
    return (
      index + 1 < this.level.lines.length &&
      Number.isFinite(this.indent(index)) &&
      this.indent(index + 1) > this.indent(index) &&
      Number.isFinite(this.indent(index + 1))
    );
  }
  foldAll() {
    this.level.lines.forEach((line, index) => {
      if (this.foldable(index) && index > 1) this.folded.add(index);
    });
    if (!this.folded.size && this.foldable(0)) this.folded.add(0);
    this.layout();
  }
  draw() {
    if (!this.level) return;
    const first = this.printed ? 0 : Math.max(0, Math.floor(this.box.scrollTop / LINE_HEIGHT) - 8);
    const shown = this.visible.slice(first, this.printed ? PRINTED : first + Math.ceil(this.box.clientHeight / LINE_HEIGHT) + 16);
    this.rows.style.transform = `translateY(${first * LINE_HEIGHT}px)`;
    this.rows.replaceChildren(...shown.map((index) => this.row(index)));
    if (this.printed && this.visible.length > PRINTED)
      this.rows.append(h("p", null, `and ${count(this.visible.length - PRINTED, "line")} more in ${this.source.file}`));
  }
  print(whether) {
    this.printed = whether;
    this.draw();
  }
  row(index) {
    const code = this.level.code.get(index);
    const fold = this.foldable(index)
      ? h("span", { class: "fold", "data-fold": index, title: "fold" }, this.folded.has(index) ? "▸" : "▾")
      : h("span", { class: "fold" });
    const classes = ["line", this.marks.lines.has(index) && "hit", index === this.at && "at"].filter(Boolean).join(" ");
    return h(
      "div",
      { class: classes, "data-line": index, title: this.hint(index) },
      h("span", { class: code ? "no code-line" : "no" }, this.level.numbers ? this.level.numbers[index] || "" : index + 1),
      fold,
      h(
        "span",
        { class: "text" },
        drawLine(this.level.lines[index], this.level.language, this.marks.names, this.search, this.named),
        this.folded.has(index) && h("i", { class: "more" }, ` … ${this.end(index) - index} lines`),
      ),
    );
  }
  mark(followed) {
    this.marks = traced(followed, this.level);
    this.draw();
  }
  searched() {
    this.search = this.find.value.trim().toLowerCase();
    const hits = this.hits();
    this.found.textContent = this.search ? count(hits.length, "line") : "";
    if (hits.length && this.search) this.go(hits.find((index) => index >= this.at) ?? hits[0]);
    else this.draw();
  }
  hits() {
    return this.search
      ? this.level.lines.flatMap((line, index) => (line.toLowerCase().includes(this.search) ? [index] : []))
      : [...this.marks.lines].sort((one, other) => one - other);
  }
  jump(hits, step) {
    if (!hits.length) return;
    const next =
      step > 0 ? (hits.find((index) => index > this.at) ?? hits[0]) : ([...hits].reverse().find((index) => index < this.at) ?? hits.at(-1));
    this.go(next);
    this.found.textContent = `${hits.indexOf(next) + 1} of ${count(hits.length, "line")}`;
  }
  go(index) {
    for (const folded of [...this.folded]) if (folded < index && this.end(folded) >= index) this.folded.delete(folded);
    this.at = index;
    this.layout();
    const row = this.visible.indexOf(index),
      top = row * LINE_HEIGHT;
    if (top < this.box.scrollTop + LINE_HEIGHT || top > this.box.scrollTop + this.box.clientHeight - 3 * LINE_HEIGHT)
      this.box.scrollTop = top - this.box.clientHeight / 3;
    this.draw();
  }
  key(event) {
    const page = Math.max(1, Math.floor(this.box.clientHeight / LINE_HEIGHT) - 2);
    const move = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (move !== undefined)
      this.go(this.visible[Math.min(this.visible.length - 1, Math.max(0, Math.max(0, this.visible.indexOf(this.at)) + move))]);
    else if (event.key === "Enter") this.owner.followLine(this.level.code.get(this.at), this);
    else if (event.key === "v" || event.key === "V")
      this.owner.followValue(
        this.level.defines[this.at][0] || tokens(this.level.lines[this.at], this.level.language).find(([, , name]) => name)?.[2],
        this,
      );
    else if (event.key === "f" || event.key === "F") this.toggle(this.at);
    else if (event.key === "Escape") this.owner.follow(null);
    else return;
    event.preventDefault();
  }
  toggle(index) {
    if (!this.foldable(index)) return;
    this.folded[this.folded.has(index) ? "delete" : "add"](index);
    this.layout();
  }
  click(event) {
    if (getSelection().toString()) return;
    const line = event.target.closest("[data-line]");
    if (!line) return;
    this.at = Number(line.dataset.line);
    if (event.target.dataset.fold) return this.toggle(this.at);
    const name = event.target.closest("[data-name]")?.dataset.name;
    if (name) this.owner.followValue(name, this);
    else if (event.target.classList.contains("no")) this.owner.followLine(this.level.code.get(this.at), this);
    else this.draw();
  }
}
