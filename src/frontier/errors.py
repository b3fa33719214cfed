"""Every error that Frontier raises for its user, in one tree.

    FrontierError               exit  1
    ├── UsageError              exit  2   a parameter, path or command is wrong; nothing was started
    ├── DataError               exit 65   the dataset is at fault; carries all problems found
    │   └── ImageError          exit 65   one image cannot be read (frontier.images)
    ├── TamperedError           exit 65   a file no longer has the SHA-256 its manifest states
    ├── TargetUnavailable       exit 69   this machine cannot run that target; says what to install
    ├── NonFiniteLoss           exit 70   a loss or gradient is NaN or infinite; weights untouched
    ├── OutOfMemory             exit 71   a training needs more memory than there is
    ├── StageFailed             exit 70   a stage ended with an error
    │   └── TransientFailure    exit 75   the same, from a cause that may pass (a lock, a signal)
    ├── StorageError            exit 74   the disk is full or not writable
    └── Busy                    exit 75   another run holds the checkout

A message names the key or file, what is wrong, and the fix, in a line or two.
"""

import difflib
from collections.abc import Sequence


class FrontierError(Exception):
    """Base of every error meant for the user; `exit_code` is the command's exit status."""

    exit_code = 1


class UsageError(FrontierError):
    exit_code = 2


class DataError(FrontierError):
    """The dataset is at fault.

    Args:
        summary: one line on what is wrong and what to do.
        problems: every problem found, one line each.
    """

    exit_code = 65

    def __init__(self, summary: str, problems: Sequence[str] = ()) -> None:
        super().__init__("\n".join([summary, *(f"  - {problem}" for problem in problems)]))
        self.summary = summary
        self.problems = list(problems)


class TamperedError(FrontierError):
    exit_code = 65


class TargetUnavailable(FrontierError):
    exit_code = 69


class NonFiniteLoss(FrontierError):
    exit_code = 70


class OutOfMemory(FrontierError):
    exit_code = 71


class StageFailed(FrontierError):
    exit_code = 70


class TransientFailure(StageFailed):
    exit_code = 75


class StorageError(FrontierError):
    exit_code = 74


class Busy(FrontierError):
    exit_code = 75


def nearest(name: str, valid: list[str]) -> str:
    """ ", did you mean 'x'?" or the list of valid names."""
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"valid: {', '.join(sorted(valid))}"
