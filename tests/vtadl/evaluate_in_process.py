"""One of two processes that evaluate together: arguments rank, meeting file and output folder."""

import importlib.util
import json
import sys
from pathlib import Path

import torch.distributed as dist

rank, meeting, output = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
specification = importlib.util.spec_from_file_location(
    "test_metrics", Path(__file__).with_name("test_metrics.py")
)
test_metrics = importlib.util.module_from_spec(specification)
specification.loader.exec_module(test_metrics)

dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
batches = list(test_metrics.make_batches())
metrics = test_metrics.evaluated(batches[:3] if rank == 0 else batches[3:])  # unequal shares
evaluation = metrics.evaluate(resamples=20).as_dict()
(output / f"{rank}.json").write_text(json.dumps(evaluation))
dist.destroy_process_group()
