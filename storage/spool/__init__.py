"""Received objects, durable before anyone is told that they were accepted."""

from storage.spool.incoming import Incoming
from storage.spool.packs import Member, members
from storage.spool.queue import Spool
from storage.spool.records import Backlog, SpoolRecord, checksum_of
from storage.spool.scratch import Scratch

__all__ = [
    "Backlog",
    "Incoming",
    "Member",
    "Scratch",
    "Spool",
    "SpoolRecord",
    "checksum_of",
    "members",
]
