"""How many requests each service had in each hour: kept longer than the requests, for prewarming by habit."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from sqlalchemy import BigInteger, delete, func, insert, select, type_coerce

from functions.sql.database import Database
from functions.sql.tables import arrivals, requests

_HOUR_US: Final = 3_600_000_000
AGAIN_HOURS: Final = 2
"""Hours that are counted anew: a request may be recorded a while after it came."""


class SqlHourlyArrivals:
    """Over the store's database; may be used beside a `SqlStore` of another process."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def hourly(self, now_hour: int, hours: int) -> Mapping[str, Mapping[int, int]]:
        """Arrivals by slug and hour (since 1970, UTC) of the last `hours`, this one included.

        Folds what was recorded since the last time in first, and forgets what is older. Raises StoreFailed.
        """
        oldest = now_hour - hours
        with self._db.write() as connection:
            newest = connection.execute(select(func.max(arrivals.c.hour))).scalar()
            since = oldest if newest is None else max(oldest, newest - AGAIN_HOURS)
            accepted = type_coerce(requests.c.accepted_at, BigInteger)
            hour = accepted // _HOUR_US
            counted = connection.execute(
                select(requests.c.service, hour.label("hour"), func.count().label("count"))
                .where(requests.c.service.is_not(None), accepted >= since * _HOUR_US)
                .group_by(requests.c.service, hour)
            ).all()
            connection.execute(
                delete(arrivals).where((arrivals.c.hour >= since) | (arrivals.c.hour < oldest))
            )
            if counted:
                rows = [{"service": s, "hour": h, "count": n} for s, h, n in counted]
                connection.execute(insert(arrivals), rows)
            by_service: dict[str, dict[int, int]] = defaultdict(dict)
            for service, at, count in connection.execute(
                select(arrivals.c.service, arrivals.c.hour, arrivals.c.count)
            ):
                by_service[service][at] = count
        return by_service

    def close(self) -> None:
        self._db.close()
