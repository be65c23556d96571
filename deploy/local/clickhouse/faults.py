"""The engine's exceptions in the words, codes and statuses of ClickHouse's HTTP interface."""

import re
import secrets

_CODE = re.compile(r"Code: (\d+)\. (DB::Exception: .*)", re.DOTALL)
_VERSION = re.compile(r"\s*\(version [^()]*(?:\([^()]*\))?\)\s*$")
_UNKNOWN_EXCEPTION = 1002

AUTHENTICATION_FAILED = 516
QUERY_WAS_CANCELLED = 394
QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING = 216

# The table of ClickHouse's exceptionCodeToHTTPStatus, grouped by status; everything else is a 500.
_CODES_OF_STATUS = {
    400: (6, 8, 15, 25, 26, 27, 36, 37, 38, 41, 44, 53, 62, 72, 117, 123, 167, 168, 223, 321, 376, 427, 441, 675, 676),
    401: (194,),
    403: (192, 193, 497, 512, AUTHENTICATION_FAILED),
    404: (46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511),
    408: (159,),
    411: (381,),
    413: (229,),
    415: (779,),
    501: (48,),
    503: (76, 209, 439),
}
_STATUS_OF_CODE = {code: status for status, codes in _CODES_OF_STATUS.items() for code in codes}


class EngineError(Exception):
    """An exception of the engine: its code, and ClickHouse's text from `DB::Exception` on.

    Attributes:
        code: ClickHouse's error code, such as 60 for UNKNOWN_TABLE.
        detail: the message without its code and version, closed by the error's name in brackets.
    """

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"Code: {code}. DB::Exception: {detail}")
        self.code = code
        self.detail = detail

    @classmethod
    def of(cls, error: Exception) -> "EngineError":
        """The fault that one of chDB's exceptions speaks of; text without a code becomes UNKNOWN_EXCEPTION (1002)."""
        if isinstance(error, EngineError):
            return error
        match = _CODE.search(str(error))
        if match is None:
            return cls(_UNKNOWN_EXCEPTION, f"{error}. (UNKNOWN_EXCEPTION)")
        detail = match.group(2).removeprefix("DB::Exception: ")
        return cls(int(match.group(1)), _VERSION.sub("", detail).rstrip())

    @property
    def status(self) -> int:
        """The HTTP status that ClickHouse answers with when nothing was sent yet."""
        return _STATUS_OF_CODE.get(self.code, 500)

    def text(self, version: str) -> str:
        """The body of an answer: ClickHouse's line, ending in the server's version and a line break."""
        return f"{self} (version {version} (embedded build))\n"


def cancelled() -> EngineError:
    """What the client of a killed query is told."""
    return EngineError(QUERY_WAS_CANCELLED, "Query was cancelled. (QUERY_WAS_CANCELLED)")


def new_tag() -> str:
    """A fresh `X-ClickHouse-Exception-Tag`: 16 lower-case letters."""
    return "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(16))


def trailer(text: str, tag: str) -> bytes:
    """The block that ends a broken body since ClickHouse 25.11; `text` must end in a line break."""
    message = text.encode()
    return b"\r\n__exception__\r\n%b\r\n%b%d %b\r\n__exception__\r\n" % (
        tag.encode(),
        message,
        len(message),
        tag.encode(),
    )
