"""Brings the database of DATABASE_URL to the newest revision; safe to run again and by several hosts at once."""

from migrations.upgrade import upgrade

if __name__ == "__main__":
    upgrade()
