"""`t3 train` with split weights on CPU processes: what `accelerate launch` starts in place of `t3 train` in tests.

accelerate splits weights over GPUs only. Told that these processes have some, it splits them over CPUs just the same.
"""

import os
import sys

from accelerate import PartialState
from accelerate.utils import DistributedType

from t3_agents import cli


if __name__ == "__main__":
    os.environ["ACCELERATE_USE_CPU"] = "false"
    PartialState(cpu=True)
    kind = DistributedType.MULTI_GPU
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        import deepspeed

        kind = DistributedType.DEEPSPEED
        # Else it compiles an exchange of its own through shared memory, for minutes.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    PartialState._shared_state["distributed_type"] = kind
    sys.exit(cli.main(["train", *sys.argv[1:]]))
