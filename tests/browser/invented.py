"""Two nights: one good, one with every outcome and with names that mean harm."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.nights import InventedJob
from lowering.record.result import OUTCOMES

MARKUP = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"
HOSTILE = (MARKUP, "\"><svg onload=alert(2)>' & ]]> --> </script>", "n" * 300, "🦙🔥 emoji 例", "שלום \u202eevil\u202c עולם",
           "../../etc/passwd", "a/b\\c%2e%2e?x=1#y", "`${alert(3)}`",
           "__proto__", "a\nb\tc")  # fmt: skip
GOOD = [
    InventedJob("mlp", seconds=1.0),
    InventedJob("bert", seconds=9.0, peak=900 << 20, layers=40, warnings=("batch is promised wider than traced",)),
    *(InventedJob("llama", f"seq{size}-{kind}", seconds=size / 64, batch=size, kwargs={"kind": kind}) for size in (64, 128, 256)
      for kind in ("a", "b")),
]
ENDED = [
    InventedJob(f"ends-{outcome.replace('_', '-')}", "default", outcome, stage, problem=f"ended as {outcome} in layer 12")
    for outcome, stage in zip(OUTCOMES[1:], ("torch", "stablehlo", "verify", "torch", "mhlo", "mhlo", "start", "start", "start"),
                              strict=True)
]
HOSTILE_JOBS = [InventedJob(f"h{number}", name, "error", "torch", problem=f"{name}\n{name}", warnings=(name,))
                for number, name in enumerate(HOSTILE)]
EARLIER = [*GOOD, *(replace(job, outcome="ok", stage="verify") for job in ENDED)]
MIXED = [*(replace(job, changed="stablehlo") if job.model == "bert" else job for job in GOOD), *ENDED,
         InventedJob("known", "default", "unsupported", "torch", "unsupported", "no"),
         *HOSTILE_JOBS]  # fmt: skip
