"""/v1/admin: what operators do, with a key that has the scope admin. The command line does the same."""

from web.admin import accounts, platform

blueprints = (accounts.blueprint, platform.blueprint)
