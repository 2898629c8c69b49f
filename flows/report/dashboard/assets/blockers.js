// Missing ops and constructs in the order in which fixing them unlocks the most jobs.
function blockersSection(blockers) {
  let total = 0;
  const all = blockers.reduce((sum, blocker) => sum + blocker.unlocks[0], 0);
  const rows = blockers.slice(0, 20).map((blocker, index) => {
    total += blocker.unlocks[0];
    const [blocked, names] = blocker.blocks;
    return [
      index + 1,
      h("span", null, blocker.construct && h("code", null, blocker.construct), blocker.construct && " ", blocker.cause),
      blocker.stages.join(", "),
      h(
        "details",
        null,
        h("summary", null, count(blocked, "job")),
        h(
          "ul",
          { class: "names" },
          names.map((job) => h("li", null, h("a", { href: jobLink(job) }, job))),
          blocked > names.length && h("li", null, `and ${blocked - names.length} more`),
        ),
      ),
      blocker.alone[0],
      blocker.unlocks[0],
      `${total} of ${all}`,
    ];
  });
  return section(
    "blockers",
    "What to fix first",
    h(
      "p",
      null,
      "In this order, each fix unlocks the most jobs. A job counts as unlocked when all problems that its last stage listed are fixed.",
    ),
    table(
      [
        "#",
        "construct and cause",
        "stage",
        "blocks",
        { text: "alone", class: "num" },
        { text: "unlocks", class: "num" },
        "unlocked so far",
      ],
      rows,
      { label: "What to fix first", class: "plain fixes" },
    ),
    blockers.length > 20 && h("p", null, `${count(blockers.length - 20, "further blocker")}: shapeline blockers ${PAYLOAD.run}`),
  );
}
