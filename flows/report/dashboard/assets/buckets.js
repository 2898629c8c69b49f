// The buckets of a job: sizes, what each costs, and which sizes must be exact.
function bucketsOf(found) {
  const names = Object.keys(found[0].sizes);
  const cost = (bucket, key, say) => (bucket.cost[key] === undefined ? "" : say(bucket.cost[key]));
  const heads = [
    ...names,
    "exact",
    ...["products", "program", "ops", "made in", "compiled in", "run in"].map((text) => ({ text, class: "num" })),
    "program file",
  ];
  return table(
    heads.map((head) => (head.text ? head : { text: head })),
    found.map((bucket) => [
      ...names.map((name) => String(bucket.sizes[name])),
      bucket.exact.length ? h("span", { class: "badge bad" }, bucket.exact.join(", ")) : "",
      cost(bucket, "products", number),
      cost(bucket, "bytes", bytes),
      cost(bucket, "ops", number),
      cost(bucket, "seconds", seconds),
      cost(bucket, "compile_seconds", seconds),
      cost(bucket, "run_seconds", seconds),
      h("code", null, bucket.program),
    ]),
    { label: "Buckets" },
  );
}
