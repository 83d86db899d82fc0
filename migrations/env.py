"""Alembic's entry: one connection, one transaction for each revision."""

from alembic import context
from sqlalchemy import create_engine

engine = create_engine(str(context.config.get_main_option("sqlalchemy.url")))
with engine.connect() as connection:
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
