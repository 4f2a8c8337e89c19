"""The runs of a grid as tasks of a Ray cluster: each a process of its own on one of its machines.

Ray decides where and when, and starts a run again whose process or machine died; it then resumes.
All machines need this checkout, the data and the folder of the runs at the same paths.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from runner import Job, Made, is_done, train_here

from cxr_keras.inference.on_ray import cluster
from cxr_keras.utils.console import notice

_TRIES_AGAIN = 3


def run_on_ray(plans: Sequence[Job], data: Path, folder: Path, address: str) -> Iterator[Made]:
    """Run what is not done; yield each run as it ends.

    Args:
        plans: the runs, the first submitted first.
        data: the data folder.
        folder: where the run folders lie.
        address: of the cluster, see `cluster`.
    """
    with cluster(address) as ray:
        gpu = 1 if ray.cluster_resources().get("GPU") else 0
        # max_calls: a process trains once, so that no run has another's memory or threads
        task = ray.remote(num_cpus=1, num_gpus=gpu, max_retries=_TRIES_AGAIN, max_calls=1)(
            train_here
        )
        waiting = {}
        for plan in plans:
            try:
                done = is_done(plan, data, folder)
            except Exception as error:  # other settings: the other runs go on
                yield plan, str(error), None
                continue
            if done:
                notice(f"{plan.name} is done: skipped.")
                yield plan, "", None
            else:
                waiting[task.remote(plan, str(data), str(folder.resolve()))] = plan
        begun = time.monotonic()
        while waiting:
            ended = ray.wait(list(waiting))[0][0]
            plan = waiting.pop(ended)
            try:
                why = ray.get(ended)
            except ray.exceptions.RayError as error:
                why = f"Its process died {_TRIES_AGAIN + 1} times ({type(error).__name__})."
            notice(f"{plan.title} has ended.")
            now = time.monotonic()
            yield plan, why, None if why else now - begun
            begun = now
