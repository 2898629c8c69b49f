// Failures grouped by signature: the cause, the number of jobs, and the first run with it.
function clustersSection(jobs) {
  const groups = new Map();
  for (const job of jobs) if (job.k) groups.set(job.k, [...(groups.get(job.k) || []), job]);
  const rows = [...groups].sort((one, other) => other[1].length - one[1].length);
  const bad = rows.filter(([, members]) => kindOf(members[0]) === "bad");
  const apart = rows.filter(([, members]) => kindOf(members[0]) === "apart");
  return section(
    "failures",
    "Failures by cause",
    clusterTable(bad),
    apart.length > 0 && [h("h3", null, "Infrastructure failures"), clusterTable(apart)],
  );
}
function clusterTable(rows) {
  if (!rows.length) return h("p", null, "No model failed unexpectedly.");
  return h(
    "div",
    { class: "clusters" },
    rows.map(([signature, members]) => {
      const first = PAYLOAD.first_seen?.[signature];
      const fresh = first && first.run === PAYLOAD.run;
      const others = members.length - 1;
      const known = (PAYLOAD.causes || []).find((cause) => cause.signature === signature);
      return h(
        "details",
        { class: `cluster ${kindOf(members[0])}` },
        h(
          "summary",
          null,
          h("b", { class: "n" }, members.length),
          badge(members[0].o),
          h("span", { class: "stage" }, `in ${members[0].g}`),
          h("span", { class: "cause" }, signature.slice(signature.indexOf(": ") + 2)),
          known?.ticket && h("span", { class: "ticket" }, `${known.ticket.ref}${known.ticket.open ? "" : " (closed)"}`),
          known?.notes.length > 0 && h("span", { class: "noted" }, count(known.notes.length, "note")),
          h(
            "span",
            { class: `since ${fresh ? "new" : ""}` },
            fresh ? "first seen in this run" : first ? `since ${when(first.started)}` : "",
          ),
        ),
        h("p", { class: "full" }, members[0].c),
        known?.notes.map((note) => h("blockquote", { class: "note" }, note.text, h("footer", null, `${note.by}, ${when(note.at)}`))),
        known &&
          h(
            "p",
            null,
            ticketLink(known.ticket),
            "Cause ",
            h("code", null, known.id),
            ". Add a note: ",
            command(`shapeline note ${known.id} "TEXT"`, "the command that adds a note"),
          ),
        h(
          "p",
          null,
          h(
            "button",
            { type: "button", onclick: () => showJobs({ outcome: "", q: `signature:${signature}`, group: "" }) },
            `Show ${others ? `all ${members.length} jobs` : "the job"} in the table`,
          ),
          first && !fresh ? h("span", null, ` first seen in ${first.run}`) : null,
        ),
        h(
          "ul",
          { class: "names" },
          members.slice(0, 60).map((job) => h("li", null, h("a", { href: jobLink(job.id) }, job.id))),
          members.length > 60 && h("li", null, `and ${members.length - 60} more`),
        ),
      );
    }),
  );
}
function ticketLink(ticket) {
  if (!ticket) return null;
  const name = /^https?:\/\//.test(ticket.ref) ? h("a", { href: ticket.ref, rel: "noreferrer" }, ticket.ref) : h("b", null, ticket.ref);
  return ["Ticket ", name, ticket.open ? "" : " (closed)", ". "];
}
