"""What can go wrong, and who acts next. Raise these; anything else that a channel raises counts as its bug."""

from __future__ import annotations

from json import JSONDecodeError
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .wire import ConnectionState, ErrorCode, NextActor


class SendError(Exception):
    """Why a request failed. Made with the constructors, which set who acts next."""

    def __init__(
        self,
        code: ErrorCode,
        next: NextActor,
        message: str,
        *,
        retry_after_ms: int | None = None,
        certain: bool = True,
    ):
        super().__init__(message)
        self.code = code
        self.next = next
        self.message = str(message)
        self.retry_after_ms = retry_after_ms
        self.certain = certain
        """Whether it is certain that nothing was done. When it is not, the host never just repeats the request."""

    @classmethod
    def unsupported(cls, what: str) -> SendError:
        """The channel cannot do this."""
        return cls("unsupported", "caller", f"this channel does not support {what}")

    @classmethod
    def invalid(cls, message: str) -> SendError:
        """The request is wrong; asking again will not help."""
        return cls("invalid", "caller", message)

    @classmethod
    def rate_limited(cls, retry_after_ms: int, message: str) -> SendError:
        """The network asked to wait."""
        return cls("rateLimited", "retry", message, retry_after_ms=retry_after_ms)

    @classmethod
    def unauthorized(cls, message: str) -> SendError:
        """The credentials are no longer good."""
        return cls("unauthorized", "operator", message)

    @classmethod
    def transient(cls, message: str) -> SendError:
        """The network certainly did nothing and may do it later."""
        return cls("network", "retry", message)

    @classmethod
    def uncertain(cls, message: str) -> SendError:
        """It is not known whether the network did it: the connection broke after the request was written."""
        return cls("unreachable", "retry", message, certain=False)

    @classmethod
    def internal(cls, message: str) -> SendError:
        """A bug of the channel or the host."""
        return cls("internal", "us", message)


class ChannelError(Exception):
    """Why a start, a login or an event failed."""

    def __init__(self, error: SendError, state: ConnectionState | None = None):
        super().__init__(error.message)
        self.error = error
        self.state = state
        """The connection's state from now on; `disconnected` and tried again when absent."""

    @classmethod
    def transient(cls, message: str) -> ChannelError:
        """Something failed that may work later."""
        return cls(SendError.transient(message))

    @classmethod
    def invalid(cls, message: str) -> ChannelError:
        """The same input will always fail so: the event is no good. The host puts it into the dead letters."""
        return cls(SendError.invalid(message))

    @classmethod
    def stopped(cls, reason: str) -> ChannelError:
        """Trying again will not help before somebody changes something."""
        error = SendError("notConnected", "operator", reason)
        return cls(error, {"state": "disconnected", "reason": reason, "transient": False})

    @classmethod
    def logged_out(cls, reason: str, user_action: str) -> ChannelError:
        """The network no longer accepts the credentials; `user_action` is the sentence that says what to do."""
        state: ConnectionState = {"state": "logged_out", "reason": reason, "userAction": user_action}
        return cls(SendError.unauthorized(reason), state)


class HttpFailed(Exception):
    """A call brought no answer. Left alone, it becomes the right error of the request or the event."""

    def __init__(self, message: str, *, sent: bool, timed_out: bool = False):
        super().__init__(message)
        self.message = str(message)
        self.sent = sent
        """Whether the request may have reached the other side: a send that fails so has an unknown outcome."""
        self.timed_out = timed_out


class HostError(Exception):
    """A service that the host could not or would not give, in a sentence."""


class BadJson(ValueError):
    """The network sent something that is not what it should be."""


def as_send_error(error: BaseException) -> tuple[SendError, ConnectionState | None] | None:
    """What a failed request is reported as; nothing when it is a bug."""
    match error:
        case SendError():
            return error, None
        case ChannelError():
            return error.error, error.state
        case HttpFailed(sent=True):
            return SendError.uncertain(error.message), None
        case HttpFailed():
            return SendError.transient(error.message), None
        case HostError():
            return SendError.transient(str(error)), None
        case BadJson() | JSONDecodeError():
            # An answer came, so the network may have done what it was asked.
            return SendError.uncertain(str(error)), None
    return None


def as_channel_error(error: BaseException) -> tuple[SendError, ConnectionState | None] | None:
    """What a failed start, login or event is reported as; nothing when it is a bug."""
    match error:
        case HttpFailed():
            return SendError.transient(error.message), None
        case BadJson() | JSONDecodeError():
            return SendError.invalid(str(error)), None
    return as_send_error(error)
