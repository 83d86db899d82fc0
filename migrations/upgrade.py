"""Creates the web role, then runs every revision the database lacks."""

from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from common.database import sqlalchemy_url
from common.settings import settings

UPGRADE_LOCK = 7_201_001


def upgrade() -> None:
    """Brings DATABASE_URL to the newest revision. Raises ValueError when WEB_DATABASE_URL names a role that owns it."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    # '%' starts an interpolation in Alembic's configuration, and a password may hold one.
    config.set_main_option("sqlalchemy.url", sqlalchemy_url(settings().database_url).replace("%", "%%"))
    with psycopg.connect(settings().database_url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [UPGRADE_LOCK])
        _ensure_web_role(connection)
        command.upgrade(config, "head")


def _ensure_web_role(connection: psycopg.Connection) -> None:
    """The role the web connects as: it owns nothing and cannot bypass row-level security."""
    web = conninfo_to_dict(settings().web_database_url)
    name, password = str(web.get("user", "")), web.get("password")
    if name != "batchyard_web":
        raise ValueError(f"WEB_DATABASE_URL must connect as the role batchyard_web, not {name!r}")
    role = sql.Identifier(name)
    if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone():
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
    connection.execute(sql.SQL("ALTER ROLE {} NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE").format(role))
    if password:
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, sql.Literal(str(password))))
