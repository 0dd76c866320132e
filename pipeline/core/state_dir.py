"""Every path in `.seqline/`, the project's private folder for state, logs and partial work.

All are relative to the project's root. Nothing in the folder is an output of the DAG: it may be
removed while nothing runs, at the cost of the history of flows and of trainings to resume.
"""

import time
from pathlib import Path

ROOT = Path(".seqline")

# Flows and what they run
FLOW = ROOT / "flow"
FLOW_LOCK = FLOW / "lock"  # held by the one flow that runs; holds its process identity
JOURNAL = FLOW / "history.jsonl"  # a line when a flow begins and when it ends
PROCESS_GROUPS = FLOW / "groups"  # one file per process group that a flow has started
FORK_SERVER_LOG = FLOW / "warm.log"
PREFECT_SERVER_LOG = FLOW / "server.log"  # of the temporary server
STAGE_SECONDS = FLOW / "seconds.json"  # duration of each stage's last run
SCHEDULE = FLOW / "schedule.json"
SCHEDULE_LOCK = FLOW / "schedule.lock"
CHALLENGES = FLOW / "contests"  # predictions of champion and challenger, for the promotion
PENDING_PUBLISH = FLOW / "unpublished.json"
UNFINISHED_PUBLISH = FLOW / "unfinished"

# Repair of what a kill or a power cut damaged
DVC_LOCK_COPY = FLOW / "dvc.lock"
DVC_LOCK_DAMAGED = FLOW / "dvc.lock.damaged"
DVC_LOCK_ORDER = FLOW / "before.json"  # order of the stages in dvc.lock before a flow
DVC_PLACES = FLOW / "dvc.json"  # DVC's databases and temporary folders
VERIFIED = FLOW / "verified.json"  # cache objects whose content has been checked

LOGS = ROOT / "logs"
DOWNLOADS = ROOT / "downloads"  # partial downloads, and the last copy of sources without a hash
TRAINING = ROOT / "training"  # states of trainings, to resume from
COMPARISONS = ROOT / "gate" / "compare"  # predictions made for `seqline compare`
SERVED = ROOT / "served"  # weights of served versions, by their hash
TRACKING = ROOT / "tracking"  # locks of MLflow runs and of the registry
PROMPTS = ROOT / "prompts"  # what was typed at the prompt of each command

PRUNED = (LOGS, SERVED, TRAINING, COMPARISONS)  # `seqline prune` empties them; each is made again


def new_log_folder() -> Path:
    """Path of a log folder that is named by the present local time."""
    return LOGS / time.strftime("%Y-%m-%d_%H-%M-%S")
