"""A process that uses a ledger: `record NAME COUNT` writes entries, `hold` holds a model lock until it ends."""

from __future__ import annotations

import sys
import time

from ml_pipelines.adapters.sql.ledger import SqlLedger
from ml_pipelines.contracts import Decision, Identity
from ml_pipelines.ports.ledger_entry import RunDetails


def main() -> None:
    url, what, *rest = sys.argv[1:]
    ledger = SqlLedger(url)
    if what == "hold":
        with ledger.lock("m"):
            print("held", flush=True)
            time.sleep(3600)
    name, count = rest[0], int(rest[1])
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(count):
        identity = Identity(pipeline="p", run_id=f"{name}-{number}", task_id="t")
        ledger.record(identity, Decision(outcome="held", model="m", reason="so"), RunDetails(approver=name))


if __name__ == "__main__":
    main()
