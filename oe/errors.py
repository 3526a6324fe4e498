"""The few exceptions of the house. Expected outcomes (no key, no proposal, time-out) are values, not exceptions."""


class OeError(Exception):
    """Root of everything `oe` raises on purpose."""


class ParseError(OeError):
    """Bytes of a peer, of DNS or of the kernel do not have the form their specification asks for.

    The only exception that may leave a decoder. `where` names the structure ("IKE header", "IPSECKEY rdata"),
    `what` the field and the numbers that disagree.
    """

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where}: {what}")
        self.where = where
        self.what = what


class ConfigError(OeError):
    """The operator's input cannot be used. The text names file, line or key, what was found and what is allowed."""


class MachineLacks(OeError):
    """The machine lacks something that `oe` needs: a capability, a kernel feature, a free port or queue number.

    `missing` says what, `remedy` what to do next. Command line: exit code 3.
    """

    def __init__(self, missing: str, remedy: str) -> None:
        super().__init__(f"{missing}; {remedy}")
        self.missing = missing
        self.remedy = remedy


class KernelError(OeError):
    """The kernel refused an operation: which one, on what, and its errno."""

    def __init__(self, operation: str, subject: str, errno: int, text: str) -> None:
        super().__init__(f"{operation} {subject}: {text} (errno {errno})")
        self.operation = operation
        self.subject = subject
        self.errno = errno
