"""Perdure: durable workflows for Python, on the database you already have."""

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
    SchemaVersionError,
    StepFailedError,
    StoreUnavailableError,
    TooLargeError,
    UnknownOutcomeError,
    WrongFaceError,
)
from perdure.handle import Handle
from perdure.joins import Won, gather, race
from perdure.outcome import Blocked, Cancelled, Completed, Failed, OpenRequest, Outcome, Paused, User, Waiting
from perdure.protection import Protection
from perdure.queues import Queue
from perdure.records import Outgoing, Page, Status
from perdure.registered import register
from perdure.resources import resource, transaction
from perdure.retry import Retry
from perdure.schedules import ScheduleView
from perdure.sealing import Encryption, generate_key
from perdure.search import Query
from perdure.secrets import Secret
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
from perdure.views import HistoryEntry
from perdure.workflow import Signal, Step, SyncStep, SyncWorkflow, Workflow, checkpoint, step, workflow

__all__ = [
    "AlreadyDecidedError",
    "AlreadyExistsError",
    "BadBatchError",
    "Blocked",
    "Budget",
    "BudgetExceededError",
    "Cancelled",
    "Child",
    "CommitUnknownError",
    "Completed",
    "ConcurrentCallError",
    "CrashLoopError",
    "Current",
    "DecodeError",
    "Done",
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
    "Progress",
    "Protection",
    "Query",
    "Queue",
    "Restarted",
    "Retry",
    "ScheduleView",
    "SchemaVersionError",
    "Secret",
    "Signal",
    "Stats",
    "Status",
    "Step",
    "StepFailedError",
    "StoreUnavailableError",
    "SyncStep",
    "SyncWorkflow",
    "TooLargeError",
    "UnknownOutcomeError",
    "Usage",
    "User",
    "Waiting",
    "Won",
    "Workflow",
    "WrongFaceError",
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
