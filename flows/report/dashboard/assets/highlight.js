// Splits a line of IR into coloured tokens. `name` is the value that a token denotes, if any.
const either = (...forms) =>
  new RegExp(
    forms
      .map(
        (form) =>
          `(${[form]
            .flat()
            .map((one) => one.source)
            .join("|")})`,
      )
      .join("|"),
    "g",
  );
// For each language, the forms of the tokens of each of the KINDS, in their order.
const TOKENS = {
  mlir: either(
    /\/\/.*$/,
    /"(?:[^"\\]|\\.)*"/,
    /%[\w$.-]+(?:#\d+)?/,
    /@[\w$.-]+/,
    /!?[\w.]*tensor<[^>]*>+|![\w.]+(?:<[^>]*>)?/,
    /\b[a-z_]+\.[\w.]+/,
    /-?\b\d[\w.+]*/,
    /#[\w.]+/,
  ),
  ts: either(
    /#.*$/,
    /"(?:[^"\\]|\\.)*"/,
    /%[\w.]+/,
    /\b(?:graph|return|block\d+)\b/,
    [
      /\b(?:Float|Long|Int|Double|Half|Bool|Tensor|BFloat16|Byte|Char|Short)(?:\([^)]*\))?/,
      /\b(?:int|bool|float|str|Device|NoneType|None|number)(?:\[\])?\b\??/,
    ],
    /\b[a-z_]+::\w+/,
    /-?\b\d[\d.e+-]*/,
  ),
  py: either(
    /#.*$/,
    /"(?:[^"\\]|\\.)*"/,
    /[A-Za-z_][\w]*(?![\w.(]|\s*\()/,
    /\b(?:class|def|return|None|True|False)\b/,
    /torch\.(?:float|int|bool|bfloat|uint|complex)\w*/,
    /[A-Za-z_][\w]*(?:\.\w+)+/,
    /-?\b\d[\d.e+-]*/,
  ),
};
const KINDS = ["comment", "string", "value", "word", "type", "op", "number", "attribute"];
const KEYWORDS = new Set(["class", "def", "return", "None", "True", "False", "self", "if", "else", "import", "from", "for", "in", "torch"]);
const DYNAMIC = /(\?|\*|\b[su]\d+\b)/;

function languageOf(file) {
  const name = file.replace(/\.zst$/, "");
  return name.endsWith(".py") ? "py" : name.endsWith(".ts") ? "ts" : "mlir";
}
function tokens(text, language) {
  const found = [];
  let at = 0;
  for (const match of text.matchAll(TOKENS[language])) {
    if (match.index > at) found.push(["", text.slice(at, match.index)]);
    const index = match.slice(1).findIndex((group) => group !== undefined);
    let kind = KINDS[index];
    if (kind === "value" && language === "py" && KEYWORDS.has(match[0])) kind = "word";
    if (kind === "string" && language === "py" && /^"[a-z]+\d*\[.*\]"$|^"Sym/.test(match[0])) kind = "type";
    found.push([kind, match[0], kind === "value" ? bare(match[0]) : null]);
    at = match.index + match[0].length;
  }
  if (at < text.length) found.push(["", text.slice(at)]);
  return found;
}
const bare = (name) => name.replace(/#\d+$/, "");

// Renders a line as elements. marked: names of values to emphasize; named: what arguments are called in the exported program.
function drawLine(text, language, marked, search, named) {
  const cut = text.length > 6000 ? text.slice(0, 6000) : text;
  const drawn = tokens(cut, language).map(([kind, content, name]) => {
    const body =
      kind === "type" ? content.split(DYNAMIC).map((piece, index) => (index % 2 ? h("b", { class: "dyn" }, piece) : piece)) : [content];
    if (!kind) return found(content, search);
    if (name && named.has(name))
      return h(
        "span",
        { class: `t-${kind} argument${marked.has(name) ? " hot" : ""}`, "data-name": name, title: name },
        `%${named.get(name)}`,
      );
    return h(
      "span",
      { class: `t-${kind}${name && marked.has(name) ? " hot" : ""}`, "data-name": name },
      search && kind !== "type" ? found(content, search) : body,
    );
  });
  return text.length > cut.length ? [drawn, h("span", { class: "t-comment" }, ` … ${text.length - cut.length} more characters`)] : drawn;
}
function found(text, search) {
  if (!search) return [text];
  const at = text.toLowerCase().indexOf(search);
  return at < 0
    ? [text]
    : [text.slice(0, at), h("mark", null, text.slice(at, at + search.length)), ...found(text.slice(at + search.length), search)];
}
