"use strict";
// Elements are made from text only: names of models and files and texts of errors are never parsed as markup.
function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}
function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
  element.append(...children.flat());
  return element;
}
const seconds = (value) =>
  value === null || value === undefined
    ? ""
    : value < 9.995
      ? `${value.toFixed(2)} s`
      : value < 599.5
        ? `${value.toFixed(1)} s`
        : value < 7200
          ? `${(value / 60).toFixed(0)} min`
          : `${(value / 3600).toFixed(1)} h`;
const bytes = (value) =>
  value === null || value === undefined
    ? ""
    : value < 1024
      ? `${value} B`
      : value < 1048576
        ? `${(value / 1024).toFixed(0)} KiB`
        : value < 10737418240
          ? `${(value / 1048576).toFixed(0)} MiB`
          : `${(value / 1073741824).toFixed(1)} GiB`;
const count = (number, word) => `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;
const number = (value) =>
  typeof value === "number"
    ? value.toLocaleString("en", { maximumSignificantDigits: 4 })
    : value === null || value === undefined
      ? ""
      : String(value);
const when = (iso) => (iso ? `${iso.slice(0, 10)} ${iso.slice(11, 16)} UTC` : "");
const tail = (text, length) => (text.length > length ? `…${text.slice(1 - length)}` : text);
function table(heads, rows, attributes = {}) {
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": attributes.label || "table" },
    h(
      "table",
      { class: attributes.class || "plain" },
      h(
        "thead",
        null,
        h(
          "tr",
          null,
          heads.map((head) => h("th", { scope: "col", class: head.class }, head.text ?? head)),
        ),
      ),
      h(
        "tbody",
        null,
        rows.map((row) =>
          h(
            "tr",
            row.attributes || null,
            (row.cells || row).map((cell, index) => h("td", { class: heads[index].class }, cell)),
          ),
        ),
      ),
    ),
  );
}
function copyButton(text, label) {
  const button = h("button", { type: "button", class: "small" }, "Copy");
  button.setAttribute("aria-label", `Copy ${label}`);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(button.previousElementSibling);
      button.textContent = "Selected";
    }
    setTimeout(() => {
      button.textContent = "Copy";
    }, 1500);
  });
  return button;
}
const command = (text, label) => h("span", { class: "command" }, h("code", null, text), copyButton(text, label));
const section = (id, title, ...content) =>
  h("section", { id, "aria-labelledby": `${id}-title` }, h("h2", { id: `${id}-title`, tabindex: "-1" }, title), content);
const chooser = (label, options, value, change) =>
  h(
    "label",
    { class: "field" },
    h("span", null, label),
    h(
      "select",
      { "aria-label": label, onchange: (event) => change(event.target.value) },
      options.map(([key, text]) => h("option", { value: key, selected: key === value }, text)),
    ),
  );
