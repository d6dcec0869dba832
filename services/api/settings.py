"""What the API is told besides the servers' addresses: nothing yet."""

from shared.settings import Settings


class ApiSettings(Settings):
    """See `shared.settings.Settings`; all are read from `OVERTILE_*`."""
