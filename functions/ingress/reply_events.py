"""Reply events as the ingress understands them: parts of streams, progress, ends. Pure."""

from events.errors import EventRejected
from events.event import Event
from events.names import CHUNK, PROGRESS, REPLY_EPOCH, TERMINAL_TYPES
from events.parsers import Chunk, Progress, Terminal, parse_chunk, parse_progress, parse_terminal

Reply = Chunk | Progress | Terminal


def read_reply(event: Event, epoch: str) -> Reply | str:
    """What a reply event means here, or why it is dropped."""
    if event.get(REPLY_EPOCH) not in (None, epoch):
        return "other_epoch"
    try:
        if event.type == CHUNK:
            return parse_chunk(event)
        if event.type == PROGRESS:
            return parse_progress(event)
        if event.type in TERMINAL_TYPES:
            return parse_terminal(event)
    except EventRejected:
        return "malformed"
    return "other_type"
