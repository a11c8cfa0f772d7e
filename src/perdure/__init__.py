"""Perdure: durable workflows for Python, on the database you already have."""

from perdure.calls import (
    Child,
    Won,
    gather,
    interrupt,
    now,
    patched,
    race,
    random,
    receive,
    send,
    sleep,
    start_child,
    uuid4,
)
from perdure.context import Current, current
from perdure.engine import Engine, Handle
from perdure.errors import (
    AlreadyDecidedError,
    AlreadyExistsError,
    BadBatchError,
    CommitUnknownError,
    ConcurrentCallError,
    DecodeError,
    EncodeError,
    ExecutionCancelledError,
    FramesRefusedError,
    InvalidAnswerError,
    JournalMismatchError,
    LeaseLostError,
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
from perdure.outcome import Blocked, Cancelled, Completed, Failed, OpenRequest, Outcome, Paused, User, Waiting
from perdure.records import Page, Query, Status
from perdure.retry import Retry
from perdure.stores.memory import MemoryStore
from perdure.views import HistoryEntry
from perdure.workflow import Step, SyncStep, Workflow, checkpoint, step, workflow

__version__ = "0.1.0"
