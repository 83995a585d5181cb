"""A Ray cluster of two nodes on this machine: a program of its own, that tells its address and kills a node on demand.

    python ray_cluster.py FOLDER

Prints the address; a line on standard input kills the second node at once; the end of standard input ends it all.
"""

from __future__ import annotations

import os
import sys

#: Bytes; the least that Ray takes.
STORE = 80 * 2**20


def main(folder: str) -> None:
    # Not `temp_dir`: Ray would still write the address into a folder of its own choice, which need not be there.
    os.environ["RAY_TMPDIR"] = folder
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": STORE}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        second = cluster.add_node(**node)
        cluster.wait_for_nodes()
        print(cluster.address, flush=True)
        for _ in sys.stdin:
            cluster.remove_node(second, allow_graceful=False)
            print("killed", flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
