"""Which worker of pytest-xdist runs which tests.

The group that a mark names does not reach the scheduler in every version of the two, so what is asked is the file.
"""

import functools
import re
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

MADE_ONCE = re.compile(r"^@pytest\.fixture\([^\n]*scope=\"module\"", re.M)


class FileScheduling(LoadScopeScheduling):
    """A file whose fixtures are made once for it goes to one worker; tests of other files go wherever there is room.

    The largest such files come first, then the tests in the order in which they were collected.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if _is_made_once(self.config.rootpath / file) else nodeid

    def mark_test_complete(self, node, item_index: int, duration: float = 0) -> None:
        """Mark a test, and forget the part of the work that is done: the base counts over all that it remembers."""
        scope = self._split_scope(self.registered_collections[node][item_index])
        super().mark_test_complete(node, item_index, duration)
        if all(self.assigned_work[node][scope].values()):
            del self.assigned_work[node][scope]


@functools.cache
def _is_made_once(file: Path) -> bool:
    return file.suffix == ".py" and MADE_ONCE.search(file.read_text()) is not None
