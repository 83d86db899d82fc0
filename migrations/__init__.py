"""The schema of Batchyard, as Alembic revisions written in SQL. `python -m migrations` brings a database up to date."""
