"""Errors of the shop.

AppError
├── NotFoundError
├── ConflictError
├── ValidationFailedError
└── ExternalServiceError
"""


class AppError(Exception):
    """Base of every error that the shop raises on purpose; its text may be shown to the caller."""


class NotFoundError(AppError):
    """The thing asked for does not exist."""


class ConflictError(AppError):
    """The request contradicts the present state."""


class ValidationFailedError(AppError):
    """The request is well formed but breaks a rule."""


class ExternalServiceError(AppError):
    """A call to another service failed.

    `status_code` is the HTTP status, or None when no answer came (refused, timed out, cut off): the
    work may then have been done or not. `retry_after` is the wait in seconds that the service asked for.
    The cause is the error of httpx2.
    """

    def __init__(
        self, service: str, status_code: int | None = None, retry_after: float | None = None
    ) -> None:
        # All three go into args, so that the error survives copying and pickling.
        super().__init__(service, status_code, retry_after)
        self.service = service
        self.status_code = status_code
        self.retry_after = retry_after

    def __str__(self) -> str:
        if self.status_code is None:
            return f"{self.service} gave no answer"
        if self.status_code < 300:
            return f"{self.service} answered {self.status_code} without what was asked for"
        return f"{self.service} answered {self.status_code}"
