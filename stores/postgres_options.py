"""Options of the store in a Postgres database."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresOptions:
    """How a Postgres database is used. What is None is left to the URL, libpq's environment (`PGPASSWORD`,
    `PGPASSFILE`, `PGSSLMODE`, ...) and `~/.pgpass`."""

    schema: str = "perdure"
    """The database schema that holds the tables: several stores may share a database."""
    max_connections: int = 4
    """Connections of one store object, at most."""
    connections_per_node: int = 16
    """Connections of all this user's processes on this machine to the same server, at most."""
    connect_timeout: timedelta = timedelta(seconds=10)
    """How long to wait for the server to answer a new connection, and for one to be free."""
    statement_timeout: timedelta = timedelta(seconds=60)
    """The server ends a statement that takes longer, a wait for a lock included."""
    idle_timeout: timedelta = timedelta(seconds=5)
    """A connection that was not used for so long is closed, which frees its place for other processes."""
    application_name: str = "perdure"
    """What the server's statistics call the connections."""
    password: str | None = field(default=None, repr=False)
    sslmode: str | None = None
    """disable, allow, prefer, require, verify-ca or verify-full."""
    sslrootcert: str | None = None
    """File of the certificate authorities that the server's certificate is checked against."""
    sslcert: str | None = None
    """File of the client's certificate."""
    sslkey: str | None = None
    """File of the client's key."""
    prepare: bool = True
    """False behind a pooler that hands out connections per transaction (PgBouncer): statements are not prepared, and
    the timeouts, being settings of a session, have to be set for the role (`ALTER ROLE ... SET statement_timeout`)."""
    allow_loss: bool = False
    """Also use a server or role with `fsync` or `synchronous_commit` off, which may forget an acknowledged commit."""
