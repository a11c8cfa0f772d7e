"""The error tree. Every error carries the execution and the key it concerns, where there is one.

PerdureError
├── NotInWorkflowError       workflow code did what only a step may do
├── WrongFaceError           the sync face was used where the async one belongs, or the reverse
├── ConcurrentCallError      a step's body made durable calls from several tasks at once
├── NoExecutionError         a durable call outside an execution
├── NotFoundError            no such execution, request or workflow
├── AlreadyExistsError       the id is taken by another workflow or another input
├── AlreadyDecidedError      the request has its answer, which stands
├── InvalidAnswerError       the answer does not fit the request's schema; nothing was changed
├── NotApproverError         this user may not decide the request
├── ApprovalRejectedError    a step that asks for approval was rejected, and did not run
├── LeaseLostError           this worker was declared dead; another one goes on
├── JournalMismatchError     the code asks for something else than what was recorded
├── UnknownOutcomeError      a once-only step began, and nobody knows how it ended
├── CrashLoopError           the execution's worker died again and again while it ran
├── FramesRefusedError       the workflow's frames could not be closed
├── EncodeError              a value cannot be recorded
├── DecodeError              a recorded value cannot be read
├── TooLargeError            a value or an id is over its limit
├── BudgetExceededError      the execution has used up its budget, and nobody raised it
├── SchemaVersionError       the database was written by a newer, or needs an older, library
├── MovedError               the database's executions were moved to another one
├── RollbackStuckError       a rollback cannot go on without a person
├── AlreadyRollingBackError  the execution is being rolled back already
├── StoreUnavailableError    the database cannot be reached, or refuses to work
│   └── CommitUnknownError   ... and nobody knows whether the last batch is in it
├── BadBatchError            the store refused a batch for what is in it
├── StepFailedError          a recorded error whose class is not known here
└── ExecutionCancelledError  the execution was cancelled
"""

from __future__ import annotations


class PerdureError(Exception):
    """The root of Perdure's errors."""

    def __init__(self, message: str = "", *, execution_id: str | None = None, key: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())
        self.execution_id = execution_id
        self.key = key


class NotInWorkflowError(PerdureError):
    """Workflow code may await durable calls and pure asyncio only; do this in a step."""


class WrongFaceError(PerdureError):
    """A plain function was called where `await f.aio(...)` belongs, or the reverse."""


class ConcurrentCallError(PerdureError):
    """Inside a step, durable calls come from the body's own task, or through gather, race and map."""


class NoExecutionError(PerdureError):
    """This durable call has a meaning inside an execution only."""


class NotFoundError(PerdureError):
    """There is nothing of that name."""


class AlreadyExistsError(PerdureError):
    """An execution of this id exists, with another workflow or another input."""


class AlreadyDecidedError(PerdureError):
    """The request has been decided; the first decision stands."""


class InvalidAnswerError(PerdureError):
    """The answer does not fit the request; nothing was changed."""


class NotApproverError(PerdureError):
    """This user is not among those who may decide the request."""


class ApprovalRejectedError(PerdureError):
    """The step was rejected by those who decide about it, and did not run."""


class LeaseLostError(PerdureError):
    """This worker was declared dead; nothing it did since was recorded, and another worker goes on."""


class JournalMismatchError(PerdureError):
    """The code asks for something else than what was recorded; the journal is untouched."""


class UnknownOutcomeError(PerdureError):
    """A once-only step began and its outcome was never recorded."""


class CrashLoopError(PerdureError):
    """The execution's worker died again and again while it ran it; it waits for a person."""


class FramesRefusedError(PerdureError):
    """The workflow's frames refused to be closed."""


class EncodeError(PerdureError):
    """The value cannot be recorded."""


class DecodeError(PerdureError):
    """The recorded value cannot be read."""


class TooLargeError(PerdureError):
    """The value is over its limit."""


class BudgetExceededError(PerdureError):
    """The budget is used up, and was not raised."""


class SchemaVersionError(PerdureError):
    """The database's schema and this library do not fit."""


class MovedError(PerdureError):
    """The executions of this database were moved to another one; here nothing is run any more."""


class RollbackStuckError(PerdureError):
    """A rollback cannot go on without a person."""


class AlreadyRollingBackError(PerdureError):
    """The execution is being rolled back already."""


class StoreUnavailableError(PerdureError):
    """The store cannot be reached; nothing was lost, it is tried again."""


class CommitUnknownError(StoreUnavailableError):
    """The connection broke at the commit: the batch may be recorded or not. `Store.settle` tells."""


class BadBatchError(PerdureError):
    """The store refused a batch because of something in it (not because of its own state)."""


class StepFailedError(PerdureError):
    """A recorded error, rebuilt: its own class is not known in this process."""


class ExecutionCancelledError(PerdureError):
    """The execution was cancelled."""
