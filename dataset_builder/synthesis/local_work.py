"""Work of this machine beside the calls to a teacher.

Hundreds of candidates may be under way, nearly all of them waiting for a reply. Programs and parsers take turns, so
that memory stays bounded and a limit of seconds means the same with one candidate and with hundreds.
"""

from __future__ import annotations

import os
import threading


PLACES = threading.BoundedSemaphore(2 * len(os.sched_getaffinity(0)))
"""Held while a program or a parser runs; never two by one thread."""
