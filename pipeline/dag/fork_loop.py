"""The loop of a server that forks for each request: fork_server.py and stage_server.py."""

import os
import selectors
import signal
from collections.abc import Callable


class ForkLoop:
    """Waits for requests on `descriptor` and for the ends of this process's children.

    `handle` reads from the descriptor and returns whether there may be more. `ended` gets the
    process id and the exit status of each child, which is negative after a signal."""

    def __init__(
        self, descriptor: int, handle: Callable[[], bool], ended: Callable[[int, int], None]
    ) -> None:
        self._descriptor = descriptor
        self._handle = handle
        self._ended = ended

        # A child's end writes a byte to this pipe, so that `select` waits for it and for requests.
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_writer, False)
        signal.set_wakeup_fd(self._wake_writer)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)

        self._selector = selectors.DefaultSelector()
        self._selector.register(descriptor, selectors.EVENT_READ)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)

    def run(self) -> None:
        """Serve until `handle` returns False."""
        while True:
            for key, _ in self._selector.select():
                if key.fd == self._wake_reader:
                    os.read(self._wake_reader, 4096)
                    self._reap()
                elif not self._handle():
                    return

    def leave(self) -> None:
        """In a child: restore the handling of signals, and close what belongs to the loop."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        for descriptor in (self._wake_reader, self._wake_writer, self._descriptor):
            os.close(descriptor)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:  # there are no children
                return
            if not pid:
                return
            self._ended(pid, os.waitstatus_to_exitcode(status))
