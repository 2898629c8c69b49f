// The verdict on every dim that was declared as dynamic.
const spanOf = (range) => (range ? `[${range.lower ?? "-oo"}, ${range.upper ?? "oo"}]` : "");
const placeOf = (line) => (line ? `${line.file}:${line.line} in ${line.function}` : "");
const LOST = new Set(["specialized", "never_symbol", "refused", "undecided"]);

function symbolsOf(record, annotated) {
  if (!record || !record.requested) return h("p", null, "No symbol record: the job ended before the export, or started below it.");
  const lines = (line) => line && h("code", { class: "wrap", title: line.code }, placeOf(line));
  const parts = [];
  if (record.error) {
    parts.push(
      h(
        "div",
        { class: "notice" },
        h("h3", null, `Export failed: ${record.error.kind}`),
        h("pre", null, record.error.message),
        lines(record.error.line),
        record.error.fixes.length > 0 &&
          h(
            "ul",
            null,
            record.error.fixes.map((fix) => h("li", null, fix.name ? `${fix.name} = ${fix.spec}` : fix.spec)),
          ),
      ),
    );
  }
  parts.push(
    h("h3", null, "Requested dims"),
    record.requested.length
      ? table(
          ["dim", "asked", "promised", "example", "symbol", "verdict", "why"].map((text) => ({ text })),
          record.requested.map((dim) => {
            const lost = LOST.has(dim.verdict) || dim.lost_at;
            const step = dim.multiple_of > 1 ? `, multiple of ${dim.multiple_of}` : "";
            const verdict =
              {
                merged: `merged with ${dim.related.join(", ")}`,
                derived: `derived: ${dim.expr}`,
                specialized: `specialized to ${dim.value}`,
                never_symbol: `never a symbol: ${dim.value}`,
              }[dim.verdict] || dim.verdict;
            return [
              h("code", null, dim.id),
              h("code", null, dim.asked),
              `${spanOf(dim.promised)}${step}`,
              dim.example ?? "",
              dim.symbol ? h("code", null, dim.symbol) : "",
              h(
                "span",
                { class: lost ? "badge bad" : "badge good" },
                `${lost ? "✗ " : "✓ "}${verdict}${dim.lost_at ? `, lost at ${dim.lost_at}` : ""}`,
              ),
              h("span", { class: "wrap" }, dim.why, " ", lines(dim.line)),
            ];
          }),
          { label: "Requested dims" },
        )
      : h("p", null, "None."),
  );
  const levels = [...new Set(record.requested.flatMap((dim) => dim.levels.map((place) => place.level)))];
  if (levels.length) {
    parts.push(
      h("h3", null, "Down the levels"),
      table(
        [{ text: "dim" }, ...levels.map((text) => ({ text }))],
        record.requested.map((dim) => [
          h("code", null, dim.id),
          ...levels.map((level) => {
            const place = dim.levels.find((one) => one.level === level);
            return place
              ? h(
                  "span",
                  { class: /^\d+$/.test(place.size) ? "lost" : "", title: place.type },
                  h("code", null, `${place.value}: ${place.size}`),
                )
              : "";
          }),
        ]),
        { label: "Dims down the levels" },
      ),
    );
  }
  if (record.symbols.length) {
    parts.push(
      h("h3", null, "Symbols"),
      table(
        ["symbol", "meaning", "kind", "source", "created", "traced", "promised", "code line"].map((text) => ({ text })),
        record.symbols.map((symbol) => [
          h("code", null, symbol.became ? `${symbol.name} = ${symbol.became}` : symbol.name),
          symbol.meaning,
          symbol.kind,
          h("span", { class: "wrap" }, symbol.sources.join(", ") || symbol.op),
          spanOf(symbol.created),
          spanOf(symbol.traced),
          spanOf(symbol.promised),
          lines(symbol.line),
        ]),
        { label: "Symbols" },
      ),
    );
  }
  if (record.relations.length) {
    parts.push(
      h("h3", null, "Relations assumed by torch"),
      table(
        ["kind", "relation", "holds", "checked by", "code line"].map((text) => ({ text })),
        record.relations.map((one) => [
          one.kind,
          h("code", { class: "wrap" }, one.text),
          one.holds === "no"
            ? `not at ${Object.entries(one.fails_at)
                .map(([name, size]) => `${name}=${size}`)
                .join(", ")}`
            : one.holds,
          one.checked_by.join(", ") || "none",
          lines(one.line),
        ]),
        { label: "Relations" },
      ),
    );
  }
  if (record.events.length) {
    parts.push(
      h(
        "details",
        null,
        h("summary", null, `Timeline (${count(record.events.length, "event")})`),
        table(
          [{ text: "at", class: "num" }, { text: "event" }, { text: "what" }, { text: "code line" }],
          record.events.map((event) => [
            `${event.seconds.toFixed(3)} s`,
            event.kind,
            h("span", { class: "wrap" }, event.text),
            lines(event.line),
          ]),
          { label: "Timeline" },
        ),
      ),
    );
  }
  if (annotated)
    parts.push(
      h(
        "details",
        null,
        h("summary", null, "The model's source, annotated"),
        h("pre", { class: "log", tabindex: "0", role: "region", "aria-label": "Annotated source" }, annotated),
      ),
    );
  return parts;
}
