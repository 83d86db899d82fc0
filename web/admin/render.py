"""How what operators see looks in JSON."""

from common import ids
from common.accounts import Account
from common.audit import Entry
from common.backlog import Depth, PausedBatch
from common.platform import Platform
from web.admin import schemas
from web.render import money, precise, unix


def account(found: Account) -> schemas.Account:
    return {
        "id": found.shown_id,
        "object": "admin.account",
        "name": found.name,
        "status": found.state,
        "plan": found.plan,
        "limits": found.overrides,
        "soft_cap": money(found.soft_cap),
        "hard_cap": money(found.hard_cap),
        "billing_anchor": unix(found.billing_anchor),
        "created_at": unix(found.created_at),
    }


def platform(found: Platform) -> schemas.Platform:
    return {
        "object": "admin.platform",
        "status": "running" if found.stopped_at is None else "stopped",
        "stopped_at": unix(found.stopped_at),
        "stopped_reason": found.stopped_reason,
        "hard_cap": money(found.hard_cap),
        "month": unix(found.month),
        "spent": money(found.spent),
    }


def depth(found: Depth, tickets: int | None) -> schemas.Depth:
    return {
        "plan": found.plan,
        "pending_rows": found.pending_rows,
        "accounts_waiting": found.accounts_waiting,
        "running_rows": found.running_rows,
        "tickets": tickets,
    }


def paused_batch(found: PausedBatch) -> schemas.PausedBatch:
    return {
        "id": found.shown_id,
        "object": "admin.paused_batch",
        "account_id": ids.show("acct_", found.account_id),
        "kind": found.kind,
        "plan": found.plan,
        "pending_rows": found.pending_rows,
        "reason": found.reason,
        "paused_at": unix(found.paused_at),
    }


def audit_entry(found: Entry) -> schemas.AuditEntry:
    return {
        "id": found.shown_id,
        "object": "admin.audit_entry",
        "created_at": precise(found.created_at),
        "actor": found.actor,
        "action": found.action,
        "account_id": ids.show("acct_", found.account_id) if found.account_id is not None else None,
        "details": found.details,
    }
