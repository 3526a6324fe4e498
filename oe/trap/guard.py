"""The guard: the floor in a table that belongs to us alone, as long as we live.

A table with the flag `owner` belongs to the netlink socket that made it. The kernel lets nobody else change it,
`nft flush ruleset` passes it over, and it goes when the socket is closed, however its process ends. So the socket must
be ours: the text goes to the kernel through libnftables, the library behind `nft`, whose context keeps its socket.
"""

import ctypes

from oe.errors import MachineLacks
from oe.trap.ruleset import render_guard
from oe.trap.spec import TrapSpec

LIBRARY = "libnftables.so.1"


class Guard:
    """Keeps closed nets shut from `__init__` to `close`, in the network namespace of the thread that makes it."""

    def __init__(self, spec: TrapSpec) -> None:
        """Raises `MachineLacks`: no library, one that is too old, or a kernel before 5.12."""
        self._library = _load()
        self._context = self._library.nft_ctx_new(0)
        if not self._context:
            raise MachineLacks(f"{LIBRARY} gives no context", "look for the kernel module nf_tables")
        # Else it writes to our standard error.
        self._library.nft_ctx_buffer_error(self._context)
        try:
            self.reload(spec)
        except MachineLacks:
            self.close()
            raise

    def reload(self, spec: TrapSpec) -> None:
        """Keep the closed nets of `spec` shut, instead of those before, in one transaction.

        Raises `MachineLacks` when the kernel refuses; then nothing has changed.
        """
        if self._library.nft_run_cmd_from_buffer(self._context, render_guard(spec).encode()):
            error: bytes = self._library.nft_ctx_get_error_buffer(self._context) or b""
            first = next(iter(error.decode(errors="replace").splitlines()), "no message")
            remedy = (
                "tables with an owner need Linux 5.12 and nftables 1.0; another may be in our place: `nft list tables`"
            )
            raise MachineLacks(f"no table of our own ({first})", remedy)

    def close(self) -> None:
        """Let the table go."""
        self._library.nft_ctx_free(self._context)
        self._context = None


def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as fault:
        raise MachineLacks(f"{LIBRARY} cannot be loaded", "install libnftables1") from fault
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    for function in (library.nft_ctx_buffer_error, library.nft_ctx_get_error_buffer, library.nft_ctx_free):
        function.argtypes = [ctypes.c_void_p]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return library
