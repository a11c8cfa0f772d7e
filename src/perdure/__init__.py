"""Perdure: durable workflows for Python, on the database you already have."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from perdure.approvals import Action, Approval, Approved, Decision, Edit, Question, Rejected, Stage
from perdure.asking import approval
from perdure.budget import Budget
from perdure.bulk import Done, Stats
from perdure.calls import (
    Child,
    interrupt,
    now,
    patched,
    random,
    receive,
    restart,
    rollback,
    send,
    sleep,
    start_child,
    uuid4,
)
from perdure.context import Current, current
from perdure.engine import Engine
from perdure.errors import (
    AlreadyDecidedError,
    AlreadyExistsError,
    AlreadyRollingBackError,
    ApprovalRejectedError,
    BadBatchError,
    BudgetExceededError,
    CommitUnknownError,
    ConcurrentCallError,
    CrashLoopError,
    DecodeError,
    EncodeError,
    ExecutionCancelledError,
    FramesRefusedError,
    InvalidAnswerError,
    JournalMismatchError,
    LeaseLostError,
    MovedError,
    NoExecutionError,
    NotApproverError,
    NotFoundError,
    NotInWorkflowError,
    PerdureError,
    RollbackStuckError,
    SchemaVersionError,
    StepFailedError,
    StoreUnavailableError,
    TooLargeError,
    UnknownOutcomeError,
    WrongFaceError,
)
from perdure.handle import Handle
from perdure.joins import Won, gather, race
from perdure.options import Signal
from perdure.outcome import (
    Blocked,
    Cancelled,
    Completed,
    Failed,
    OpenRequest,
    Outcome,
    Paused,
    RollbackFailed,
    RolledBack,
    User,
    Voice,
    Waiting,
)
from perdure.protection import Protection
from perdure.queues import Queue
from perdure.records import Counts, Outgoing, Page, Status
from perdure.registered import register
from perdure.resources import resource, transaction
from perdure.retry import Retry
from perdure.rewinding import PlannedUndo, RollbackPlan
from perdure.schedules import ScheduleView
from perdure.sealing import Encryption, generate_key
from perdure.search import Query
from perdure.secrets import Secret
from perdure.state import AttemptError, Branch, Place, Position, State
from perdure.store import Store
from perdure.stores import LAZY, store_class
from perdure.stores.memory import MemoryStore
from perdure.streams import (
    Event,
    Progress,
    Restarted,
    Usage,
    emit,
    progress,
    publish,
    set_attributes,
    usage,
)
from perdure.telemetry import Happening
from perdure.undoing import Unknown
from perdure.views import HistoryEntry
from perdure.workflow import Step, SyncStep, SyncWorkflow, Workflow, checkpoint, step, workflow

if TYPE_CHECKING:  # else each is imported when it is first asked for, as its driver may not be there
    from perdure.stores.files import FileStore as FileStore
    from perdure.stores.mysql import MysqlStore as MysqlStore
    from perdure.stores.postgres import PostgresStore as PostgresStore
    from perdure.stores.sqlite import SqliteStore as SqliteStore

__all__ = [
    "Action",
    "AlreadyDecidedError",
    "AlreadyExistsError",
    "AlreadyRollingBackError",
    "AttemptError",
    "Approval",
    "ApprovalRejectedError",
    "Approved",
    "BadBatchError",
    "Blocked",
    "Branch",
    "Budget",
    "BudgetExceededError",
    "Cancelled",
    "Child",
    "CommitUnknownError",
    "Completed",
    "ConcurrentCallError",
    "Counts",
    "CrashLoopError",
    "Current",
    "Decision",
    "DecodeError",
    "Done",
    "Edit",
    "EncodeError",
    "Encryption",
    "Engine",
    "Event",
    "ExecutionCancelledError",
    "Failed",
    "FramesRefusedError",
    "Handle",
    "Happening",
    "HistoryEntry",
    "InvalidAnswerError",
    "JournalMismatchError",
    "LeaseLostError",
    "MemoryStore",
    "MovedError",
    "NoExecutionError",
    "NotApproverError",
    "NotFoundError",
    "NotInWorkflowError",
    "OpenRequest",
    "Outcome",
    "Outgoing",
    "Page",
    "Paused",
    "PerdureError",
    "Place",
    "PlannedUndo",
    "Position",
    "Progress",
    "Protection",
    "Query",
    "Question",
    "Queue",
    "Rejected",
    "Restarted",
    "Retry",
    "RollbackFailed",
    "RollbackPlan",
    "RollbackStuckError",
    "RolledBack",
    "ScheduleView",
    "SchemaVersionError",
    "Secret",
    "Signal",
    "Stage",
    "State",
    "Stats",
    "Status",
    "Step",
    "StepFailedError",
    "StoreUnavailableError",
    "SyncStep",
    "SyncWorkflow",
    "TooLargeError",
    "Unknown",
    "UnknownOutcomeError",
    "Usage",
    "User",
    "Voice",
    "Waiting",
    "Won",
    "Workflow",
    "WrongFaceError",
    "approval",
    "checkpoint",
    "current",
    "emit",
    "gather",
    "generate_key",
    "interrupt",
    "now",
    "patched",
    "progress",
    "publish",
    "race",
    "random",
    "receive",
    "register",
    "resource",
    "restart",
    "rollback",
    "send",
    "set_attributes",
    "sleep",
    "start_child",
    "step",
    "transaction",
    "usage",
    "uuid4",
    "workflow",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Callable[..., Store]:
    """`SqliteStore`, `FileStore`, `PostgresStore` and `MysqlStore`, each imported when it is first asked for."""
    if name in LAZY:
        return store_class(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
