"""Which batches take a step now. Pure: each tenant has a share of running batches."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from functions.ports.store import BatchRow


def choose_turns(
    batches: Sequence[BatchRow],
    *,
    waiting: Collection[str],
    per_tenant: int,
    most: int,
    last: Mapping[str, int],
) -> list[BatchRow]:
    """Of each tenant the oldest `per_tenant` that work, and all that wait (a look costs little); `batches` come oldest
    first. Where these are more than `most`, tenants take turns, and so do the batches of one: who took a step least
    recently comes first. `last` has the number of the round of a batch's last step.
    """
    chosen: dict[str, list[BatchRow]] = defaultdict(list)
    working: dict[str, int] = defaultdict(int)
    for batch in batches:
        if batch.id not in waiting:
            if working[batch.tenant] >= per_tenant:
                continue
            working[batch.tenant] += 1
        chosen[batch.tenant].append(batch)
    ranked: list[tuple[int, int, BatchRow]] = []
    for mine in chosen.values():
        mine.sort(key=lambda batch: last.get(batch.id, -1))
        ranked += [(place, last.get(batch.id, -1), batch) for place, batch in enumerate(mine)]
    ranked.sort(key=lambda one: one[:2])
    return [batch for _, _, batch in ranked[:most]]
