// Sweeps: time, memory and IR size of a model's jobs over the values of an axis.
function plotsSection(jobs) {
  const found = [];
  for (const family of new Set(jobs.map((job) => job.m))) {
    const members = jobs.filter((job) => job.m === family);
    const axes = [...new Set(members.flatMap((job) => Object.keys(job.a)))];
    for (const axis of axes) {
      const values = [...new Set(members.map((job) => job.a[axis]))];
      if (values.length > 1 && values.every((value) => typeof value === "number")) found.push([family, axis, members]);
    }
  }
  if (!found.length) return null;
  const holder = h(
    "div",
    { class: "plots" },
    found.slice(0, 12).map((one) => plot(...one)),
  );
  const more =
    found.length > 12 &&
    h(
      "button",
      {
        type: "button",
        onclick: (event) => {
          holder.append(...found.slice(12).map((one) => plot(...one)));
          event.target.remove();
        },
      },
      `Show ${found.length - 12} more`,
    );
  return section("sweeps", "Sweeps", holder, more);
}
function plot(family, axis, members) {
  const points = members.map((job) => ({ job, x: job.a[axis], line: rest(job, axis) })).sort((one, other) => one.x - other.x);
  const chart = (title, pick, format) =>
    lines(
      title,
      points.filter((point) => pick(point.job) !== null).map((point) => ({ ...point, y: pick(point.job) })),
      format,
    );
  return h(
    "figure",
    null,
    h("figcaption", null, h("b", null, family), ` over ${axis}`),
    h(
      "div",
      { class: "pair" },
      chart("time", (job) => job.s, seconds),
      chart("peak memory", (job) => job.p, bytes),
      chart("ops of the last level", lastOps, String),
    ),
  );
}
const lastOps = (job) =>
  job.t
    .map((stage) => stage[5])
    .filter(Boolean)
    .pop() ?? null;
const rest = (job, axis) =>
  Object.entries(job.a)
    .filter(([key]) => key !== axis && !key.endsWith(".example"))
    .map(([key, value]) => `${key.split(".").slice(-2).join(".")}=${value}`)
    .join(" ");
function lines(title, points, format) {
  const [width, height, left, bottom, top] = [330, 170, 62, 26, 22];
  const xs = points.map((point) => point.x),
    most = Math.max(...points.map((point) => point.y), 1e-9);
  const [low, high] = [Math.min(...xs), Math.max(...xs)];
  const x = (value) => left + (width - left - 14) * (high > low ? (value - low) / (high - low) : 0.5);
  const y = (value) => height - bottom - (height - bottom - top) * (value / most);
  const series = new Map();
  for (const point of points) series.set(point.line, [...(series.get(point.line) || []), point]);
  const drawing = svg("svg", {
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-label": `${title}: ${points.map((point) => `${point.x}: ${format(point.y)}`).join(", ")}`,
  });
  const text = (px, py, content, anchor = "middle") => svg("text", { x: px, y: py, "text-anchor": anchor }, content);
  drawing.append(
    text(left, 14, title, "start"),
    svg("path", { class: "axis", d: `M${left} ${top}V${height - bottom}H${width - 10}` }),
    text(left - 6, y(most) + 4, format(most), "end"),
    text(left - 6, y(0), "0", "end"),
    text(x(low), height - 8, String(low)),
  );
  if (high > low) drawing.append(text(x(high), height - 8, String(high), "end"));
  [...series.values()].forEach((line, index) => {
    drawing.append(
      svg("path", {
        class: `series s${index % 6}`,
        d: line.map((point, at) => `${at ? "L" : "M"}${x(point.x).toFixed(1)} ${y(point.y).toFixed(1)}`).join(""),
      }),
    );
    for (const point of line) {
      drawing.append(
        svg(
          "circle",
          { class: `dot s${index % 6} ${kindOf(point.job)}`, cx: x(point.x), cy: y(point.y), r: 3.5 },
          svg("title", {}, `${point.job.id}: ${format(point.y)}`),
        ),
      );
    }
  });
  return drawing;
}
