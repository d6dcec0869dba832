"""Every error the platform raises on purpose.

OvertileError
├── NotFound            the row is not there, or belongs to another workspace
├── Conflict            the request contradicts what is already stored
├── Invalid             the request can never work; the text says what would
├── Unauthenticated     no key, an unknown key or a revoked key
├── Rejected            this input can never be processed; trying again is useless
│   └── Missing         … because its bytes are gone, or others than announced
├── Unavailable         a server did not answer; trying again may help
└── Interrupted         the work must stop now, through no fault of its own
    ├── LeaseLost       somebody else holds the block
    ├── Cancelled       the user does not want the result any more
    └── Draining        this process has been asked to end

They know nothing of HTTP: `services/api/errors.py` holds the one table that maps them to answers.
"""


class OvertileError(Exception):
    """Base of all. `str(error)` is meant for the user: what, why and the mend."""


class NotFound(OvertileError):
    """The thing does not exist in the caller's workspace."""


class Conflict(OvertileError):
    """The request contradicts what is already stored."""


class Invalid(OvertileError):
    """The request can never work as it stands."""


class Unauthenticated(OvertileError):
    """The caller did not show a valid API key."""


class Rejected(OvertileError):
    """An input that can never be processed: the block fails at once, without another try."""


class Missing(Rejected):
    """The input's bytes are not in the store, or are others than were announced: sending them again mends it."""


class Unavailable(OvertileError):
    """A server the work depends on did not answer in time."""


class Interrupted(OvertileError):
    """The work must stop now, through no fault of its own."""


class LeaseLost(Interrupted):
    """The lease ran out or another worker holds the block: nothing this one does counts."""


class Cancelled(Interrupted):
    """The job was cancelled while the block was being worked on."""


class Draining(Interrupted):
    """The process was asked to end and gives the block back."""
