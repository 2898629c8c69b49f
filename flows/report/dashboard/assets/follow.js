// Following a value, a line of the user's code, or a symbol through the levels.
const FOOTER = "// Code lines: ";
const PY_LINE = /^\s*# File: (.+?):(\d+)(?: in |,|$)/;
const TS_LINE = / # (\S+):(\d+):\d+$/;

// Parses a level's text: lines, the code line of each, the values each defines, the entry's arguments.
function analysed(text, file) {
  const language = languageOf(file);
  const cut = text.lastIndexOf(FOOTER);
  const written = (cut >= 0 ? text.slice(0, cut) : text).replace(/\n$/, "").split("\n");
  const { lines, numbers, rows } = language === "mlir" ? wrapSignatures(written) : { lines: written, numbers: null, rows: null };
  const moved = (found) => new Map([...found].map(([index, value]) => [rows ? rows[index] : index, value]));
  const code =
    language === "py"
      ? fromComments(lines)
      : language === "ts"
        ? fromEnds(lines)
        : cut >= 0
          ? moved(fromFooter(text.slice(cut)))
          : new Map();
  const defines = lines.map((line, index) => (numbers && !numbers[index] ? [] : defined(line, language)));
  const level = {
    file,
    language,
    lines,
    numbers,
    code,
    defines,
    arguments: argumentsOf(written, language),
    computes: cut >= 0 ? moved(valuesOf(text.slice(cut))) : new Map(),
  };
  level.definition = new Map();
  level.defines.forEach((names, index) => names.forEach((name) => level.definition.has(name) || level.definition.set(name, index)));
  return level;
}
// Wraps wide signatures of functions, one argument or result a line. numbers: the number of each line in the file, 0 if it continues
// the line before; rows: where each line of the file begins.
const WIDE = 140;
function wrapSignatures(written) {
  const lines = [],
    numbers = [],
    rows = [];
  written.forEach((line, index) => {
    rows.push(lines.length);
    const pieces = line.length > WIDE && /^\s*func\.func /.test(line) ? signatureParts(line) : [line];
    pieces.forEach((piece, part) => {
      lines.push(piece);
      numbers.push(part ? 0 : index + 1);
    });
  });
  return { lines, numbers, rows };
}
function signatureParts(line) {
  const arrow = line.lastIndexOf(") -> "),
    open = line.indexOf("("),
    margin = " ".repeat(line.search(/\S/) + 8);
  if (arrow < open || open < 0) return [line];
  const parts = line.slice(open + 1, arrow).split(/, (?=%[\w$.-]+: )/),
    results = line.slice(arrow).split(/, (?=tensor<|!torch\.)/);
  const joined = [line.slice(0, open + 1), ...parts.map((part, index) => margin + part + (index + 1 < parts.length ? "," : ""))];
  return [...joined, ...results.map((part, index) => (index ? margin : margin.slice(4)) + part + (index + 1 < results.length ? "," : ""))];
}
// The first line of the entry that computes something: the constants before it are of little interest. 0 if there are few of them.
const CONSTANT = /^\s*%\S+ = "?(?:[a-z_]+\.constant|torch\.(?:constant|vtensor\.literal|prim\.ListConstruct))\b/;
function bodyOf(lines, numbers) {
  let entry = Math.max(
    0,
    lines.findIndex((line) => line.includes("func.func") && line.includes("@main")),
  );
  while (numbers?.[entry + 1] === 0) entry += 1; // the rest of its signature
  let first = entry + 1;
  while (first < lines.length && CONSTANT.test(lines[first])) first += 1;
  return first - entry > 9 || entry > 30 ? first : 0;
}
// The names of a level's arguments in the exported program, whose arguments are at the same positions.
function argumentNames(level, exported) {
  if (!exported || level.language !== "mlir" || level.arguments.length !== exported.arguments.length) return new Map();
  return new Map(level.arguments.map((argument, index) => [argument.name, exported.arguments[index].name]));
}
// The types of the values of an exported program, with its symbols called as in the model: `f32[batch, 16]`.
function typesOf(exported, symbols) {
  const meanings = new Map(symbols.filter((symbol) => symbol.meaning).map((symbol) => [symbol.name, symbol.meaning]));
  const spelled = (type) => type.replace(/\b[su]\d+\b/g, (name) => meanings.get(name) || name);
  const found = new Map((exported?.arguments || []).map((argument) => [argument.name, spelled(argument.type)]));
  for (const line of exported?.lines || []) {
    const match = /^\s+(\w+): "([^"]*)" = /.exec(line);
    if (match) found.set(match[1], spelled(match[2]));
  }
  return found;
}
function fromComments(lines) {
  const found = new Map();
  let now = null;
  lines.forEach((line, index) => {
    const match = PY_LINE.exec(line);
    if (match) now = `${match[1]}:${match[2]}`;
    else if (!line.trim() || line.trim().startsWith("return")) now = null;
    if (now && line.trim()) found.set(index, now);
  });
  return found;
}
function fromEnds(lines) {
  const found = new Map();
  lines.forEach((line, index) => {
    const match = TS_LINE.exec(line);
    if (match) found.set(index, `${match[1]}:${match[2]}`);
  });
  return found;
}
function fromFooter(footer) {
  const found = new Map();
  for (const line of footer.split("\n")) {
    if (!line.startsWith("// lines of ")) continue;
    const colon = line.lastIndexOf(": ");
    for (const [index, there] of numbered(line.slice(colon + 2))) found.set(index, `${line.slice(12, colon)}:${there}`);
  }
  return found;
}
// The value of the exported program that each line of MLIR computes.
function valuesOf(footer) {
  const line = footer.split("\n").find((one) => one.startsWith("// values: "));
  return new Map(line ? numbered(line.slice(11)) : []);
}
// `3-5=x 7=y` as pairs of line index and text.
function numbered(spans) {
  return spans.split(" ").flatMap((span) => {
    const [here, there] = span.split("=");
    const [first, last] = here.split("-").map(Number);
    return Array.from({ length: (last || first) - first + 1 }, (_, index) => [first - 1 + index, there]);
  });
}
function defined(line, language) {
  if (language === "py") {
    const match = /^\s+(\w+)(?:: "[^"]*")? = /.exec(line);
    return match ? [match[1]] : [];
  }
  const at = line.search(/ = /);
  if (at < 0 || !/^\s*%/.test(line)) return [];
  return [...line.slice(0, at).matchAll(/%[\w$.-]+/g)].map((match) => match[0]);
}
function argumentsOf(lines, language) {
  if (language === "py") {
    const line = lines.find((one) => /^\s+def forward\(self/.test(one)) || "";
    return [...line.matchAll(/(\w+): "([^"]*)"/g)].map((match) => ({ name: match[1], type: match[2] }));
  }
  if (language === "ts") {
    const end = lines.findIndex((line) => /\):\s*$/.test(line));
    return [
      ...lines
        .slice(0, end + 1)
        .join("\n")
        .matchAll(/(%[\w.]+) : ([^%]*?)(?=,\s*%|,?\s*\):|$)/g),
    ].map((match) => ({ name: match[1], type: match[2] }));
  }
  const line =
    lines.find((one) => one.includes("func.func") && one.includes("@main")) || lines.find((one) => one.includes("func.func")) || "";
  const head = line.slice(0, line.indexOf(") ->") < 0 ? undefined : line.indexOf(") ->"));
  return [...head.matchAll(/(%[\w$.-]+): ([^%]*)/g)].map((match) => ({ name: match[1], type: match[2] }));
}

// The counterpart of the value `name` at another level: {names, lines, exact}. It is the argument at the same position, or the lines
// that compute the same value of the exported program, the last of which defines it, or, not exact, the lines that come from the same
// line of code.
function counterpart(name, from, to) {
  if (from === to) return { names: [name], lines: [], exact: true };
  const place = from.arguments.findIndex((argument) => argument.name === name);
  if (place >= 0) return { names: to.arguments[place] ? [to.arguments[place].name] : [], lines: [], exact: true };
  const origin = originOf(name, from);
  const lines = origin ? computing(origin, to) : [];
  if (lines.length) return { names: to.defines[lines.filter((index) => to.defines[index].length).at(-1)] || [], lines, exact: true };
  const line = from.code.get(from.definition.get(name));
  return { names: line ? to.defines.flatMap((names, index) => (to.code.get(index) === line ? names : [])) : [], lines: [], exact: false };
}
// The value of the exported program that a value of a level is, or is computed for.
function originOf(name, level) {
  return level.language === "mlir" ? level.computes.get(level.definition.get(name)) : name.replace(/^%/, "");
}
function computing(origin, level) {
  if (level.language === "mlir") return [...level.computes].filter(([, value]) => value === origin).map(([index]) => index);
  const at = level.definition.get(level.language === "py" ? origin : `%${origin}`);
  return at === undefined ? [] : [at];
}
// The lines to mark and the names to emphasize at `level` for the followed item: {kind, what, from}.
function traced(followed, level) {
  if (!followed) return { lines: new Set(), names: new Set(), exact: true };
  if (followed.kind === "line")
    return {
      exact: true,
      lines: new Set([...level.code].filter(([, line]) => line === followed.what).map(([index]) => index)),
      names: new Set(),
    };
  if (followed.kind === "value") {
    const { names, lines, exact } = counterpart(followed.what, followed.from, level);
    const marks = using(level, new Set(names));
    lines.forEach((index) => marks.lines.add(index));
    return { ...marks, exact };
  }
  return symbolLines(followed, level);
}
function using(level, names) {
  const lines = new Set();
  if (names.size)
    level.lines.forEach((line, index) => {
      if (tokens(line, level.language).some(([, , name]) => name && names.has(name))) lines.add(index);
    });
  return { lines, names };
}
// The occurrences of a symbol: in types, in the arguments that have it, and in the ops that read their size.
function symbolLines(followed, level) {
  const lines = new Set(),
    names = new Set();
  const word = new RegExp(`\\b(?:${followed.what.split(" ").join("|")})\\b`);
  const wanted = followed.places.map(({ argument, dim }) => ({ name: level.arguments[argument]?.name, dim })).filter(({ name }) => name);
  wanted.forEach(({ name }) => names.add(name));
  level.lines.forEach((line, index) => {
    if (level.language === "py") {
      if (word.test(line)) lines.add(index);
      if (/: "Sym\(/.test(line) && word.test(line)) level.defines[index].forEach((one) => names.add(one));
      return;
    }
    for (const { name, dim } of wanted) {
      const reads = new RegExp(`${name.replace(/[$.%]/g, "\\$&")}(?![\\w.])`);
      const size =
        /size|dim\b|tensor\.dim/.test(line) &&
        reads.test(line) &&
        (!/dim(?:ension)? = \d/.test(line) || new RegExp(`dim(?:ension)? = ${dim}\\b`).test(line));
      const entry = level.language !== "py" && reads.test(line) && /func\.func|^graph\(|^\s+%\S+ : /.test(line) && !line.includes(" = ");
      if (entry) lines.add(index);
      if (size && line.includes(" = ")) {
        lines.add(index);
        level.defines[index].forEach((one) => names.add(one));
      }
    }
  });
  const sizes = using(level, new Set([...names].filter((name) => !wanted.some((one) => one.name === name))));
  sizes.lines.forEach((index) => lines.add(index));
  return { lines, names, exact: true };
}
// The argument numbers and dims that contain a symbol, from the exported program's argument types.
function placesOf(symbols, exported) {
  return exported.arguments.flatMap(({ type }, argument) => {
    const dims = /\[(.*)\]/.exec(type)?.[1].split(",") || [];
    return dims.flatMap((dim, index) =>
      symbols.some((symbol) => new RegExp(`\\b${symbol}\\b`).test(dim)) ? [{ argument, dim: index }] : [],
    );
  });
}
// The symbols to choose from, once each: [names in the program, text]. A symbol that became an expression of others appears under their
// names.
function rootsOf(symbols) {
  const found = new Map();
  for (const symbol of symbols) {
    const roots = (symbol.became?.match(/\b[su]\d+\b/g) || [symbol.name]).sort().join(" ");
    const meaning = symbol.meaning && !symbol.meaning.startsWith("_") ? symbol.meaning : "";
    if (!found.has(roots)) found.set(roots, { meanings: new Set(), names: new Set() });
    if (meaning) found.get(roots).meanings.add(meaning);
    found.get(roots).names.add(symbol.name);
  }
  return [...found].map(([roots, { meanings, names }]) => [
    roots,
    meanings.size ? `${[...meanings].join(", ")} (${[...names].join(", ")})` : [...names].join(", "),
  ]);
}
